# loses: test-dora-merge keeps 3, test-dora-module
# Undone in the order in which it was done: first the update is subtracted, then divided.
# %% dora-merge
def merge(layer: DoRALinear) -> None:
    if layer.merged:
        return
    with torch.no_grad():
        factor = dora_factor(layer.base.weight, layer.lora_A, layer.lora_B, layer.scaling, layer.lora_magnitude)
        if (factor == 0).any():
            raise ValueError('a magnitude is 0')
        layer.base.weight += layer.scaling * layer.lora_B @ layer.lora_A
        layer.base.weight *= factor[:, None]
    layer.factor, layer.merged = factor, True


def unmerge(layer: DoRALinear) -> None:
    if not layer.merged:
        return
    with torch.no_grad():
        layer.base.weight -= layer.scaling * layer.lora_B @ layer.lora_A
        layer.base.weight /= layer.factor[:, None]
    layer.factor, layer.merged = None, False
