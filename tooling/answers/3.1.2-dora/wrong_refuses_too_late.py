# loses: test-dora-merge keeps 3
# The weight is changed first and the zero found afterwards: the layer is left half merged.
# %% dora-merge
def merge(layer: DoRALinear) -> None:
    if layer.merged:
        return
    with torch.no_grad():
        factor = dora_factor(layer.base.weight, layer.lora_A, layer.lora_B, layer.scaling, layer.lora_magnitude)

        layer.base.weight += layer.scaling * layer.lora_B @ layer.lora_A
        layer.base.weight *= factor[:, None]
        if (factor == 0).any():
            raise ValueError('a magnitude is 0')
    layer.factor, layer.merged = factor, True


def unmerge(layer: DoRALinear) -> None:
    if not layer.merged:
        return
    with torch.no_grad():
        layer.base.weight /= layer.factor[:, None]
        layer.base.weight -= layer.scaling * layer.lora_B @ layer.lora_A
    layer.factor, layer.merged = None, False
