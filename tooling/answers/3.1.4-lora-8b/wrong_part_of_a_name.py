# loses: test-sft-memory
# A target that is part of a name is found.

# %% sft-memory
def predict_bytes(model: nn.Module, r: int, targets: Sequence[str]) -> dict[str, int]:
    layers = [(name.rpartition(".")[2], module) for name, module in model.named_modules() if isinstance(module, nn.Linear)]
    for target in targets:
        if not any(target in name for name, _ in layers):
            raise ValueError(f"no linear layer is called {target!r}")
    values = sum(r * (layer.in_features + layer.out_features) for name, layer in layers if any(t in name for t in targets))
    parts = {"weights": sum(p.nbytes for p in model.parameters()), "adapters": 4 * values, "gradients": 4 * values}
    parts["optimizer"] = 8 * values
    return parts | {"total": sum(parts.values())}
