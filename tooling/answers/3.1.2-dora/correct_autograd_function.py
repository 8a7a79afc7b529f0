# Rows by hand: sums of squares, a weight built row by row and applied in one product, an optimizer for the step, bits for signs.
# %% dora-decompose
def decompose(weight: Tensor) -> tuple[Tensor, Tensor]:
    length = (weight**2).sum(dim=1).sqrt()
    direction = torch.zeros_like(weight)
    alive = length > 0
    direction[alive] = weight[alive] / length[alive].unsqueeze(1)
    return length, direction
# %% dora-factor
def dora_factor(weight: Tensor, lora_A: Tensor, lora_B: Tensor, scaling: float, magnitude: Tensor) -> Tensor:
    adapted = (weight + scaling * torch.einsum("or,ri->oi", lora_B, lora_A)).detach()
    norm = (adapted * adapted).sum(1).sqrt()
    norm[norm == 0] = 1.0
    return magnitude * norm.reciprocal()
# %% dora-layer
class DoRALinear(nn.Module):
    def __init__(self, base: nn.Linear, lora_A: nn.Parameter, lora_B: nn.Parameter, alpha: float,
                 rank_stabilized: bool = False) -> None:
        super().__init__()
        base.requires_grad_(False)
        self.base = base
        self.lora_A = lora_A
        self.lora_B = lora_B
        self.lora_magnitude = nn.Parameter((base.weight.detach() ** 2).sum(1).sqrt())
        rank = lora_A.shape[0]
        self.scaling = float(alpha) / rank ** (0.5 if rank_stabilized else 1)
        self.merged = False
        self.factor = None

    def forward(self, x: Tensor) -> Tensor:
        if self.merged:
            return self.base(x)
        factor = dora_factor(self.base.weight, self.lora_A, self.lora_B, self.scaling, self.lora_magnitude)
        weight = factor.unsqueeze(1) * (self.base.weight + self.scaling * torch.mm(self.lora_B, self.lora_A))
        return F.linear(x, weight, self.base.bias)
# %% dora-merge
@torch.no_grad()
def merge(layer: DoRALinear) -> None:
    if not layer.merged:
        factor = dora_factor(layer.base.weight, layer.lora_A, layer.lora_B, layer.scaling, layer.lora_magnitude)
        if bool((layer.lora_magnitude == 0).any()):
            raise ValueError("cannot be undone")
        new = (layer.base.weight + layer.scaling * torch.mm(layer.lora_B, layer.lora_A)) * factor.unsqueeze(1)
        layer.base.weight.copy_(new)
        layer.factor, layer.merged = factor.clone(), True


@torch.no_grad()
def unmerge(layer: DoRALinear) -> None:
    if layer.merged:
        update = layer.scaling * torch.mm(layer.lora_B, layer.lora_A)
        layer.base.weight.copy_(layer.base.weight / layer.factor.unsqueeze(1) - update)
        layer.merged = False
# %% dora-one-step
def one_step(layer: nn.Module, x: Tensor, gradient: Tensor, learning_rate: float) -> float:
    trial = copy.deepcopy(layer)
    optimizer = torch.optim.SGD([p for p in trial.parameters() if p.requires_grad], lr=learning_rate)
    before = trial(x)
    before.backward(gradient)
    optimizer.step()
    after = trial(x)
    return math.sqrt(((after - before).detach() ** 2).mean())
# %% dora-drift
def drift(before: Tensor, after: Tensor) -> tuple[float, float]:
    lengths = [w.norm(dim=1) for w in (before, after)]
    cosine = F.cosine_similarity(before, after, dim=1, eps=1e-30)
    return float((lengths[0] - lengths[1]).abs().mean()), float((1 - cosine).mean())
# %% dora-fair-trial
def fair_trial(
    base: nn.Module,
    arms: Mapping[str, Callable[[nn.Module], None]],
    seeds: Sequence[int],
    make_batches: Callable[[int], list],
    train: Callable[[nn.Module, list], None],
    score: Callable[[nn.Module], float],
) -> dict[str, dict[int, float]]:
    if sorted(set(seeds)) != sorted(seeds):
        raise ValueError("a seed occurs twice")
    data = {seed: make_batches(seed) for seed in seeds}

    def one(prepare, seed):
        model = copy.deepcopy(base)
        for work in (prepare, lambda m: train(m, data[seed])):
            torch.random.manual_seed(seed)
            work(model)
        return score(model)

    return {name: {seed: one(prepare, seed) for seed in seeds} for name, prepare in arms.items()}
# %% dora-compare
def compare(first: Mapping[int, float], second: Mapping[int, float]) -> dict[str, float]:
    if first.keys() ^ second.keys() or len(first) <= 1:
        raise ValueError("needs pairs")
    d = torch.tensor([second[k] - first[k] for k in sorted(first)], dtype=torch.float64)
    n = len(d)
    bits = (torch.arange(2**n).unsqueeze(1) >> torch.arange(n)) & 1
    sums = ((2.0 * bits.double() - 1) * d).sum(1) / n
    p = (sums.abs() >= d.mean().abs() - 1e-12).double().mean()
    return {"difference": d.mean().item(), "deviation": d.std().item(), "error": (d.std() / n**0.5).item(), "p_value": p.item()}
