# By hand: einsum and matrix products spelt out, recursion over children, Adam written out, SVD by an eigendecomposition.
# %% lora-init
def lora_init(
    in_features: int, out_features: int, rank: int, generator: torch.Generator | None = None
) -> tuple[nn.Parameter, nn.Parameter]:
    if rank < 1 or rank > in_features or rank > out_features:
        raise ValueError(f"{rank=}")
    unit = torch.rand((rank, in_features), generator=generator)
    return nn.Parameter((2 * unit - 1) * in_features**-0.5), nn.Parameter(torch.zeros((out_features, rank)))
# %% lora-forward
def lora_forward(x: Tensor, base: nn.Linear, lora_A: Tensor, lora_B: Tensor, scaling: float) -> Tensor:
    z = torch.einsum("...i,ri->...r", x, lora_A)
    update = torch.einsum("...r,or->...o", z * scaling, lora_B)
    return torch.add(update, base(x))
# %% lora-merge
def change_weight(layer, sign):
    update = torch.zeros_like(layer.base.weight)
    for row, column in zip(layer.lora_A.detach(), layer.lora_B.detach().T, strict=True):
        update += torch.outer(column, row).to(update.dtype)
    layer.base.weight.detach().add_(update, alpha=sign * layer.scaling)
    layer.merged = sign > 0


def merge(layer: LoRALinear) -> None:
    if layer.merged is False:
        change_weight(layer, 1)


def unmerge(layer: LoRALinear) -> None:
    if layer.merged is True:
        change_weight(layer, -1)
# %% lora-inject
def inject_lora(model: nn.Module, targets: Sequence[str], make_layer: Callable[[nn.Linear], nn.Module]) -> list[str]:
    def walk(parent, prefix):
        done = []
        for name, child in list(parent.named_children()):
            if isinstance(child, nn.Linear) and name in targets:
                setattr(parent, name, make_layer(child))
                done.append(prefix + name)
            else:
                done += walk(child, prefix + name + ".")
        return done

    replaced = walk(model, "")
    if replaced:
        return replaced
    raise ValueError("nothing replaced")
# %% lora-freeze
def freeze_base(model: nn.Module) -> tuple[int, int]:
    counts = {True: 0, False: 0}
    for name, p in model.named_parameters():
        p.requires_grad = ("." + name).endswith((".lora_A", ".lora_B"))
        counts[p.requires_grad] += p.numel()
    return counts[True], counts[True] + counts[False]
# %% lora-memory
def training_memory(model: nn.Module) -> dict[str, int]:
    total = {"weights": 0, "gradients": 0, "adam": 0}
    for _, p in model.named_parameters():
        size = p.element_size() * math.prod(p.shape)
        total["weights"] += size
        if p.requires_grad:
            total["gradients"] += size
            total["adam"] += size + size
    return total
# %% lora-train
def finetune(model: nn.Module, batches: Sequence[Tensor], learning_rate: float) -> list[float]:
    # Kingma and Ba 2015, with PyTorch's placement of epsilon.
    state = [(p, torch.zeros_like(p), torch.zeros_like(p)) for p in model.parameters() if p.requires_grad]
    if not state:
        raise ValueError("nothing to train")
    losses = []
    model.train()
    for t, ids in enumerate(batches, start=1):
        loss = model(input_ids=ids, labels=ids).loss
        gradients = torch.autograd.grad(loss, [p for p, _, _ in state])
        losses.append(float(loss))
        with torch.no_grad():
            for (p, m, v), g in zip(state, gradients, strict=True):
                m.mul_(0.9).add_(g, alpha=0.1)
                v.mul_(0.999).addcmul_(g, g, value=0.001)
                p -= learning_rate * (m / (1 - 0.9**t)) / ((v / (1 - 0.999**t)).sqrt() + 1e-8)
    model.eval()
    return losses
# %% lora-svd
def best_adapter(delta: Tensor, rank: int, scaling: float) -> tuple[Tensor, Tensor]:
    # The leading eigenvectors of delta^T delta span the best row space; B is delta projected onto it.
    _, vectors = torch.linalg.eigh(delta.T @ delta)
    lora_A = vectors[:, -rank:].T
    return lora_A, delta @ lora_A.T / scaling
# %% lora-export
def export_adapter(model: nn.Module) -> dict[str, Tensor]:
    pairs = ((n, p) for n, p in model.named_parameters() if n.split(".")[-1] in ("lora_A", "lora_B"))
    return {"base_model.model." + n + ".weight": torch.tensor(p.detach().numpy()) for n, p in pairs}
