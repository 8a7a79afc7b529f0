# The library's own tools: normalize, renorm by an identity product as PEFT does, statistics, a generator of signs.
# %% dora-decompose
def decompose(weight: Tensor) -> tuple[Tensor, Tensor]:
    return weight.norm(p=2, dim=-1), F.normalize(weight, dim=-1, eps=1e-30)
# %% dora-factor
def dora_factor(weight: Tensor, lora_A: Tensor, lora_B: Tensor, scaling: float, magnitude: Tensor) -> Tensor:
    update = F.linear(F.linear(torch.eye(weight.shape[1], dtype=weight.dtype), lora_A), lora_B).T
    norm = torch.linalg.norm(weight.detach() + scaling * update.detach(), dim=1)
    return magnitude / torch.where(norm > 0, norm, torch.ones_like(norm))
# %% dora-layer
class DoRALinear(nn.Module):
    def __init__(self, base: nn.Linear, lora_A: nn.Parameter, lora_B: nn.Parameter, alpha: float,
                 rank_stabilized: bool = False) -> None:
        super().__init__()
        for parameter in base.parameters():
            parameter.requires_grad = False
        self.base = base
        self.lora_A = lora_A
        self.lora_B = lora_B
        self.lora_magnitude = nn.Parameter(base.weight.detach().norm(dim=1))
        rank = lora_A.shape[0]
        self.scaling = alpha / (math.sqrt(rank) if rank_stabilized else rank)
        self.merged = False
        self.factor = None

    def forward(self, x: Tensor) -> Tensor:
        if self.merged:
            return self.base(x)
        factor = dora_factor(self.base.weight, self.lora_A, self.lora_B, self.scaling, self.lora_magnitude)
        plain = F.linear(x, self.base.weight)
        extra = (factor - 1) * plain + factor * self.scaling * F.linear(F.linear(x, self.lora_A), self.lora_B)
        return self.base(x) + extra
# %% dora-merge
def merge(layer: DoRALinear) -> None:
    if layer.merged:
        return
    if not layer.lora_magnitude.detach().all():
        raise ValueError("a magnitude of 0 cannot be unmerged")
    factor = dora_factor(layer.base.weight, layer.lora_A, layer.lora_B, layer.scaling, layer.lora_magnitude).detach()
    layer.base.weight.data.addmm_(layer.lora_B.detach(), layer.lora_A.detach(), alpha=layer.scaling)
    layer.base.weight.data.mul_(factor.reshape(-1, 1))
    layer.factor = factor
    layer.merged = True


def unmerge(layer: DoRALinear) -> None:
    if layer.merged:
        layer.base.weight.data.div_(layer.factor.reshape(-1, 1))
        layer.base.weight.data.addmm_(layer.lora_B.detach(), layer.lora_A.detach(), alpha=-layer.scaling)
        layer.merged = False
# %% dora-one-step
def one_step(layer: nn.Module, x: Tensor, gradient: Tensor, learning_rate: float) -> float:
    parameters = dict(layer.named_parameters())
    trained = {name: p.detach().clone().requires_grad_() for name, p in parameters.items() if p.requires_grad}
    before = torch.func.functional_call(layer, trained, (x,))
    grads = torch.autograd.grad(before, list(trained.values()), grad_outputs=gradient)
    moved = {name: p.detach() - learning_rate * g for (name, p), g in zip(trained.items(), grads, strict=True)}
    after = torch.func.functional_call(layer, moved, (x,))
    return F.mse_loss(after, before).sqrt().item()
# %% dora-drift
def drift(before: Tensor, after: Tensor) -> tuple[float, float]:
    m0, v0 = decompose(before)
    m1, v1 = decompose(after)
    return F.l1_loss(m1, m0).item(), 1 - torch.einsum("oi,oi->", v0, v1).item() / len(v0)
# %% dora-compare
def compare(first: Mapping[int, float], second: Mapping[int, float]) -> dict[str, float]:
    from statistics import fmean, stdev
    if dict.fromkeys(sorted(first)) != dict.fromkeys(sorted(second)) or len(first) < 2:
        raise ValueError("needs the same seeds")
    d = [second[k] - first[k] for k in second]
    sums = [0.0]
    for value in d:
        sums = [s + sign * value for s in sums for sign in (1, -1)]
    hits = [abs(s) / len(d) > abs(fmean(d)) - 1e-12 for s in sums]
    return {"p_value": hits.count(True) / len(hits), "difference": fmean(d), "deviation": stdev(d), "error": stdev(d) / len(d) ** 0.5}
