# loses: test-dora-merge keeps 3
# The factor is computed anew at unmerge, from the weight that is merged already. The output hides it, because the layer
# divides by the norm of whatever W it has; the weight does not come back.
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
        factor = dora_factor(layer.base.weight, layer.lora_A, layer.lora_B, layer.scaling, layer.lora_magnitude)
        layer.base.weight /= factor[:, None]
        layer.base.weight -= layer.scaling * layer.lora_B @ layer.lora_A
    layer.factor, layer.merged = None, False
