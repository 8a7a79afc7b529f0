# The library's own tools wherever there is one: kaiming_uniform_, F.linear, addmm_, set_submodule, nbytes.
# %% lora-init
def lora_init(
    in_features: int, out_features: int, rank: int, generator: torch.Generator | None = None
) -> tuple[nn.Parameter, nn.Parameter]:
    if rank not in range(1, min(in_features, out_features) + 1):
        raise ValueError("rank out of range")
    lora_A = nn.Parameter(torch.empty((rank, in_features)))
    # For a = sqrt(5) the bound is sqrt(6 / ((1 + 5) * fan_in)) = 1 / sqrt(fan_in).
    nn.init.kaiming_uniform_(lora_A, a=math.sqrt(5), generator=generator)
    return lora_A, nn.Parameter(nn.init.zeros_(torch.empty((out_features, rank))))
# %% lora-forward
def lora_forward(x: Tensor, base: nn.Linear, lora_A: Tensor, lora_B: Tensor, scaling: float) -> Tensor:
    F = nn.functional
    return F.linear(F.linear(x, lora_A) * scaling, lora_B) + F.linear(x, base.weight, base.bias)
# %% lora-layer
class LoRALinear(nn.Module):
    def __init__(self, base: nn.Linear, lora_A: nn.Parameter, lora_B: nn.Parameter, alpha: float) -> None:
        super().__init__()
        for parameter in base.parameters():
            parameter.requires_grad = False
        self.add_module("base", base)
        self.register_parameter("lora_A", lora_A)
        self.register_parameter("lora_B", lora_B)
        rank, _ = lora_A.size()
        self.scaling = float(alpha) / rank
        self.merged = False

    def forward(self, x: Tensor) -> Tensor:
        """(..., d_in) to (..., d_out); a merged layer is its base and nothing else."""
        if self.merged:
            return self.base(x)
        return lora_forward(x, self.base, self.lora_A, self.lora_B, self.scaling)
# %% lora-merge
@torch.no_grad()
def merge(layer: LoRALinear) -> None:
    if not layer.merged:
        delta = torch.mm(layer.lora_B, layer.lora_A).mul_(layer.scaling)
        layer.base.weight.data.add_(delta)
        layer.merged = True


@torch.no_grad()
def unmerge(layer: LoRALinear) -> None:
    if layer.merged:
        delta = torch.mm(layer.lora_B, layer.lora_A).mul_(layer.scaling)
        layer.base.weight.data.sub_(delta)
        layer.merged = False
# %% lora-inject
def inject_lora(model: nn.Module, targets: Sequence[str], make_layer: Callable[[nn.Linear], nn.Module]) -> list[str]:
    found = {
        path: module
        for path, module in model.named_modules()
        if type(module) is nn.Linear and path.split(".")[-1] in set(targets)
    }
    if len(found) == 0:
        raise ValueError(f"no match for {targets}")
    for path, module in found.items():
        model.set_submodule(path, make_layer(module))
    return [*found]
# %% lora-freeze
def freeze_base(model: nn.Module) -> tuple[int, int]:
    model.requires_grad_(False)
    for module in model.modules():
        for name in ("lora_A", "lora_B"):
            if name in module._parameters:
                module._parameters[name].requires_grad_(True)
    sizes = [(p.numel(), p.requires_grad) for p in model.parameters()]
    return sum(n for n, trains in sizes if trains), sum(n for n, _ in sizes)
# %% lora-memory
def training_memory(model: nn.Module) -> dict[str, int]:
    everything = list(model.parameters())
    trained = [p for p in everything if p.requires_grad]
    return {
        "weights": sum(p.nbytes for p in everything),
        "gradients": sum(p.nbytes for p in trained),
        "adam": sum(2 * p.nbytes for p in trained),
    }
# %% lora-train
def finetune(model: nn.Module, batches: Sequence[Tensor], learning_rate: float) -> list[float]:
    params = list(filter(lambda p: p.requires_grad, model.parameters()))
    if len(params) == 0:
        raise ValueError("nothing trains")
    opt = torch.optim.AdamW([{"params": params}], lr=learning_rate, weight_decay=0, foreach=False)
    history = torch.zeros(len(batches), dtype=torch.float64)
    model.train(True)
    for step, ids in enumerate(batches):
        model.zero_grad()
        output = model(input_ids=ids, labels=ids)
        output.loss.backward()
        history[step] = output.loss.detach()
        opt.step()
    model.train(False)
    return history.tolist()
# %% lora-svd
def best_adapter(delta: Tensor, rank: int, scaling: float) -> tuple[Tensor, Tensor]:
    # The split shares the singular values between both factors; the sign of the scaling goes into B.
    U, S, V = torch.svd(delta)
    root = S[:rank].div(abs(scaling)).sqrt()
    return (V[:, :rank] * root).T, math.copysign(1.0, scaling) * (U[:, :rank] * root)
# %% lora-export
def export_adapter(model: nn.Module) -> dict[str, Tensor]:
    adapter = {}
    for name, tensor in model.state_dict().items():
        if name.split(".")[-1] in {"lora_A", "lora_B"}:
            adapter["base_model.model." + name + ".weight"] = tensor.clone()
    return adapter
