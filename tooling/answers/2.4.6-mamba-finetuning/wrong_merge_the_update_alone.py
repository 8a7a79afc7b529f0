# loses: test-mambaft-merge, test-mambaft-together
# The update replaces the weight.

# %% mambaft-merge
def merge(model: nn.Module) -> int:
    found = [(path, layer) for path, layer in model.named_modules() if isinstance(layer, LoRALinear)]
    for path, layer in found:
        with torch.no_grad():
            layer.base.weight.copy_(layer.weight - layer.base.weight)
        parent, _, last = path.rpartition(".")
        setattr(model.get_submodule(parent), last, layer.base)
    return len(found)
