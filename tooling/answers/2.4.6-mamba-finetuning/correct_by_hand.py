# Wrapped calls in place of hooks, einsum, recursion over children, tensors filled in place, log_softmax and gather.

# %% mambaft-verdict
def lora_verdict(model: nn.Module, input_ids: Tensor, name: str) -> str:
    def last(path):
        return path.split(".")[-1]

    layers = {path: module for path, module in model.named_modules(remove_duplicate=False) if last(path) == name}
    numbers = {}
    for path, number in model.named_parameters(remove_duplicate=False):
        numbers.setdefault(id(number), []).append(path)
    if not layers and name in {last(path) for paths in numbers.values() for path in paths}:
        return "parameter"
    if not layers:
        raise ValueError(name)
    for layer in layers.values():
        if not isinstance(layer, nn.Linear):
            return "not linear"
    if max(len(numbers[id(layer.weight)]) for layer in layers.values()) > 1:
        return "shared"
    seen = dict.fromkeys(layers, False)

    def spy(path, forward):
        def inside(*args, **named):
            seen[path] = True
            return forward(*args, **named)

        return inside

    for path, layer in layers.items():
        layer.forward = spy(path, layer.forward)
    try:
        with torch.inference_mode():
            model(input_ids)
    finally:
        for layer in layers.values():
            del layer.forward
    return "ok" if all(seen.values()) else "bypassed"

# %% mambaft-layer
class LoRALinear(nn.Module):
    def __init__(self, base: nn.Linear, rank: int, alpha: float) -> None:
        super().__init__()
        if rank <= 0:
            raise ValueError("rank")
        for number in base.parameters():
            number.requires_grad = False
        self.base, self.scaling = base, float(alpha) / rank
        like = {"dtype": base.weight.dtype, "device": base.weight.device}
        self.lora_A = nn.Parameter((2 * torch.rand(rank, base.in_features, **like) - 1) / math.sqrt(base.in_features))
        self.lora_B = nn.Parameter(torch.zeros(base.out_features, rank, **like))

    @property
    def weight(self) -> Tensor:
        return torch.addmm(self.base.weight, self.lora_B, self.lora_A, alpha=self.scaling)

    @property
    def bias(self) -> Tensor | None:
        return self.base.bias

    def forward(self, x: Tensor) -> Tensor:
        thin = torch.einsum("...i,ri->...r", x, self.lora_A) * self.scaling
        return F.linear(x, self.base.weight, self.base.bias) + torch.einsum("...r,or->...o", thin, self.lora_B)

# %% mambaft-adapt
def adapt(model: nn.Module, targets: Sequence[str], rank: int, alpha: float) -> int:
    if rank <= 0:
        raise ValueError(f"rank {rank}")
    places = []
    for target in targets:
        found = [(parent, name, child) for parent in model.modules() for name, child in parent.named_children() if name == target]
        if not found or not all(isinstance(child, nn.Linear) for _, _, child in found):
            raise ValueError(f"cannot adapt {target}")
        places += found
    for number in model.parameters():
        number.requires_grad = False
    count = 0
    for parent, name, child in places:
        setattr(parent, name, LoRALinear(child, rank, alpha))
        count += rank * (child.in_features + child.out_features)
    return count

# %% mambaft-collate
def collate(examples: Sequence[tuple[list[int], list[int]]], pad: int, side: str = "right") -> dict[str, Tensor]:
    if len(examples) == 0:
        raise ValueError("no examples")
    if side != "left" and side != "right":
        raise ValueError(side)
    lengths = [len(p) + len(a) for p, a in examples]
    shape = (len(examples), max(lengths))
    ids, mask, labels = torch.full(shape, pad), torch.zeros(shape, dtype=torch.int64), torch.full(shape, -100)
    for row, (prompt, answer) in enumerate(examples):
        first = shape[1] - lengths[row] if side == "left" else 0
        middle, last = first + len(prompt), first + lengths[row]
        ids[row, first:middle] = torch.tensor(prompt, dtype=torch.int64)
        ids[row, middle:last] = labels[row, middle:last] = torch.tensor(answer, dtype=torch.int64)
        mask[row, first:last] = 1
    return {"input_ids": ids, "attention_mask": mask, "labels": labels}

# %% mambaft-step
def train_step(model: nn.Module, optimizer: torch.optim.Optimizer, batch: dict[str, Tensor], micro: int) -> float:
    count = batch["labels"][:, 1:].ne(-100).sum().item()
    if not count:
        raise ValueError("nothing to learn")
    for group in optimizer.param_groups:
        for number in group["params"]:
            number.grad = None
    losses = []
    for ids, mask, labels in zip(*(batch[k].split(micro) for k in ("input_ids", "attention_mask", "labels")), strict=True):
        logps = model(input_ids=ids, attention_mask=mask).logits.log_softmax(-1)
        counts = labels[:, 1:] != -100
        picked = logps[:, :-1].gather(2, labels[:, 1:].clamp(min=0)[..., None])[..., 0]
        loss = -(picked * counts).sum() / count
        loss.backward()
        losses.append(loss.detach())
    optimizer.step()
    return float(sum(losses))

# %% mambaft-merge
def merge(model: nn.Module) -> int:
    count = 0
    for name, child in model.named_children():
        if isinstance(child, LoRALinear):
            has_bias = child.base.bias is not None
            plain = nn.Linear(child.base.in_features, child.base.out_features, bias=has_bias)
            plain.weight = nn.Parameter(child.weight.detach().clone(), requires_grad=False)
            if has_bias:
                plain.bias = child.base.bias
            setattr(model, name, plain)
            count += 1
        else:
            count += merge(child)
    return count
