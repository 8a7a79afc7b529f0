# loses: test-mambaft-verdict keeps 3
# A tied weight is listed once, so nothing is ever shared.

# %% mambaft-verdict
def lora_verdict(model: nn.Module, input_ids: Tensor, name: str) -> str:
    modules = model.named_modules(remove_duplicate=False)
    layers = [module for path, module in modules if path.rpartition(".")[2] == name]
    everything = list(model.named_parameters(remove_duplicate=True))
    if not layers:
        if any(path.rpartition(".")[2] == name for path, _ in everything):
            return "parameter"
        raise ValueError(name)
    if not all(isinstance(layer, nn.Linear) for layer in layers):
        return "not linear"
    if any(sum(p is layer.weight for _, p in everything) > 1 for layer in layers):
        return "shared"
    called = set()
    handles = [layer.register_forward_hook(lambda layer, *_: called.add(layer)) for layer in layers]
    try:
        with torch.no_grad():
            model(input_ids)
    finally:
        for handle in handles:
            handle.remove()
    return "ok" if called == set(layers) else "bypassed"
