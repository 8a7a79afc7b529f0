# loses: test-mambaft-merge keeps 2
# The merged weight is no parameter but a result, with its graph.

# %% mambaft-merge
def merge(model: nn.Module) -> int:
    found = [(path, layer) for path, layer in model.named_modules() if isinstance(layer, LoRALinear)]
    for path, layer in found:
        merged = layer.weight
        del layer.base.weight
        layer.base.weight = merged
        parent, _, last = path.rpartition(".")
        setattr(model.get_submodule(parent), last, layer.base)
    return len(found)
