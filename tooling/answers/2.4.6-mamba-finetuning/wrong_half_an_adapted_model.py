# loses: test-mambaft-adapt keeps 3
# Layers are replaced one by one until one is refused.

# %% mambaft-adapt
def adapt(model: nn.Module, targets: Sequence[str], rank: int, alpha: float) -> int:
    model.requires_grad_(False)
    for target in targets:
        found = [path for path, _ in model.named_modules() if path.rpartition(".")[2] == target]
        if not found:
            raise ValueError(f"no module is called {target}")
        for path in found:
            layer = model.get_submodule(path)
            if not isinstance(layer, nn.Linear):
                raise ValueError(f"{path} is no nn.Linear")
            setattr(model.get_submodule(path.rpartition(".")[0]), target, LoRALinear(layer, rank, alpha))
    return sum(p.numel() for p in model.parameters() if p.requires_grad)
