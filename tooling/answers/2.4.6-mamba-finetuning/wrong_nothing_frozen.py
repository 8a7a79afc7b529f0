# loses: test-mambaft-adapt keeps 2, test-mambaft-together
# The rest of the model trains too.

# %% mambaft-adapt
def adapt(model: nn.Module, targets: Sequence[str], rank: int, alpha: float) -> int:
    found = {path: layer for path, layer in model.named_modules() if path.rpartition(".")[2] in targets}
    missing = set(targets) - {path.rpartition(".")[2] for path in found}
    wrong = [path for path, layer in found.items() if not isinstance(layer, nn.Linear)]
    if missing or wrong or rank < 1:
        raise ValueError("no such module, no nn.Linear, or a rank below 1", missing, wrong, rank)
    for path, layer in found.items():
        parent, _, last = path.rpartition(".")
        setattr(model.get_submodule(parent), last, LoRALinear(layer, rank, alpha))
    return sum(p.numel() for p in model.parameters() if p.requires_grad)
