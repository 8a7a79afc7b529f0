# loses: test-mambaft-adapt keeps 1
# Targets are compared by the ends of paths: 'proj' takes them all.

# %% mambaft-adapt
def adapt(model: nn.Module, targets: Sequence[str], rank: int, alpha: float) -> int:
    found = {path: layer for path, layer in model.named_modules() if path.endswith(tuple(targets))}
    missing = {name for name in targets if not any(path.endswith(name) for path in found)}
    wrong = [path for path, layer in found.items() if not isinstance(layer, nn.Linear)]
    if missing or wrong or rank < 1:
        raise ValueError("no such module, no nn.Linear, or a rank below 1", missing, wrong, rank)
    model.requires_grad_(False)
    for path, layer in found.items():
        parent, _, last = path.rpartition(".")
        setattr(model.get_submodule(parent), last, LoRALinear(layer, rank, alpha))
    return sum(p.numel() for p in model.parameters() if p.requires_grad)
