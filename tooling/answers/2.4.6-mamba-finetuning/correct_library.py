# The library's own tools: pre-hooks, kaiming initialisation, pad_sequence, the model's loss with its count of items.

# %% mambaft-verdict
def lora_verdict(model: nn.Module, input_ids: Tensor, name: str) -> str:
    from collections import Counter
    from contextlib import ExitStack

    layers = [module for path, module in model.named_modules(remove_duplicate=False) if name == path.rsplit(".", 1)[-1]]
    paths = list(model.named_parameters(remove_duplicate=False))
    if not layers:
        if name not in [path.rsplit(".", 1)[-1] for path, _ in paths]:
            raise ValueError(f"unknown: {name}")
        return "parameter"
    if any(not isinstance(layer, nn.Linear) for layer in layers):
        return "not linear"
    times = Counter(number for _, number in paths)
    if any(times[layer.weight] >= 2 for layer in layers):
        return "shared"
    missing = list(layers)
    with ExitStack() as stack, torch.no_grad():
        for layer in layers:
            handle = layer.register_forward_pre_hook(lambda layer, args: missing.remove(layer) if layer in missing else None)
            stack.callback(handle.remove)
        model(input_ids)
    return "bypassed" if missing else "ok"

# %% mambaft-layer
class LoRALinear(nn.Module):
    def __init__(self, base: nn.Linear, rank: int, alpha: float) -> None:
        super().__init__()
        if rank < 1:
            raise ValueError(f"rank {rank}")
        self.base = base
        self.base.requires_grad_(False)
        self.scaling = alpha / rank
        self.lora_A = nn.Parameter(torch.empty_like(base.weight[:1].expand(rank, -1), memory_format=torch.contiguous_format))
        self.lora_B = nn.Parameter(base.weight.new_zeros((base.weight.shape[0], rank)))
        nn.init.kaiming_uniform_(self.lora_A, a=math.sqrt(5))

    @property
    def weight(self) -> Tensor:
        return self.base.weight + torch.matmul(self.lora_B * self.scaling, self.lora_A)

    @property
    def bias(self) -> Tensor | None:
        return self.base.bias

    def forward(self, x: Tensor) -> Tensor:
        return self.base(x) + F.linear(F.linear(x, self.lora_A), self.lora_B) * self.scaling

# %% mambaft-collate
def collate(examples: Sequence[tuple[list[int], list[int]]], pad: int, side: str = "right") -> dict[str, Tensor]:
    if side not in {"left", "right"}:
        raise ValueError(f"side {side}")
    if not examples:
        raise ValueError("an empty batch")
    rows = {
        "input_ids": ([[*p, *a] for p, a in examples], pad),
        "attention_mask": ([[1] * (len(p) + len(a)) for p, a in examples], 0),
        "labels": ([[-100] * len(p) + list(a) for p, a in examples], -100),
    }
    return {
        name: nn.utils.rnn.pad_sequence([torch.tensor(row, dtype=torch.long) for row in texts], batch_first=True,
                                        padding_value=filler, padding_side=side)
        for name, (texts, filler) in rows.items()
    }

# %% mambaft-step
def train_step(model: nn.Module, optimizer: torch.optim.Optimizer, batch: dict[str, Tensor], micro: int) -> float:
    total = (batch["labels"][:, 1:] != -100).sum()
    if total == 0:
        raise ValueError("no labels")
    optimizer.zero_grad(set_to_none=True)
    loss = torch.zeros(())
    for rows in torch.arange(len(batch["labels"])).split(micro):
        part = model(**{name: tensor[rows] for name, tensor in batch.items()}, num_items_in_batch=total).loss
        part.backward()
        loss += part.detach()
    optimizer.step()
    return loss.item()

# %% mambaft-merge
def merge(model: nn.Module) -> int:
    layers = {path: layer for path, layer in model.named_modules() if type(layer) is LoRALinear}
    for path, layer in layers.items():
        layer.base.weight.data = layer.weight.data
        model.set_submodule(path, layer.base)
    return len(layers)
