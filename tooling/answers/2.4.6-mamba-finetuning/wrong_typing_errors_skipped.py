# loses: test-mambaft-adapt keeps 3
# Names that nothing has are skipped.

# %% mambaft-adapt
def adapt(model: nn.Module, targets: Sequence[str], rank: int, alpha: float) -> int:
    found = {path: layer for path, layer in model.named_modules() if path.rpartition(".")[2] in targets}
    missing = set(targets) - {path.rpartition(".")[2] for path in found}
    wrong = [path for path, layer in found.items() if not isinstance(layer, nn.Linear)]
    if wrong or rank < 1:
        raise ValueError("no such module, no nn.Linear, or a rank below 1", missing, wrong, rank)
    model.requires_grad_(False)
    for path, layer in found.items():
        parent, _, last = path.rpartition(".")
        setattr(model.get_submodule(parent), last, LoRALinear(layer, rank, alpha))
    return sum(p.numel() for p in model.parameters() if p.requires_grad)
