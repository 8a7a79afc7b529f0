# loses: test-lora-inject keeps 3
# A misspelt target replaces nothing and nobody hears of it.
# %% lora-inject
def inject_lora(model: nn.Module, targets: Sequence[str], make_layer: Callable[[nn.Linear], nn.Module]) -> list[str]:
    replaced = []
    for path, module in list(model.named_modules()):
        parent, _, last = path.rpartition(".")
        if last in targets and isinstance(module, nn.Linear):
            setattr(model.get_submodule(parent), last, make_layer(module))
            replaced.append(path)
    return replaced
