# loses: test-mambaft-merge, test-mambaft-together
# The weight is merged, and the adapter stays on top of it.

# %% mambaft-merge
def merge(model: nn.Module) -> int:
    found = [(path, layer) for path, layer in model.named_modules() if isinstance(layer, LoRALinear)]
    for path, layer in found:
        with torch.no_grad():
            layer.base.weight.copy_(layer.weight)
        parent, _, _ = path.rpartition(".")
        model.get_submodule(parent)
    return len(found)
