# loses: test-lora-inject
# Targets are looked for anywhere in the path, so "proj" also hits q_proj and old_q_proj.
# %% lora-inject
def inject_lora(model: nn.Module, targets: Sequence[str], make_layer: Callable[[nn.Linear], nn.Module]) -> list[str]:
    replaced = []
    for path, module in list(model.named_modules()):
        if isinstance(module, nn.Linear) and any(target in path for target in targets):
            parent, _, last = path.rpartition(".")
            setattr(model.get_submodule(parent), last, make_layer(module))
            replaced.append(path)
    if not replaced:
        raise ValueError("no match")
    return replaced
