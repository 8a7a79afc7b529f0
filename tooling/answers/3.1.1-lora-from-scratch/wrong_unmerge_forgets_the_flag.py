# loses: test-lora-merge keeps 2, test-lora-module
# unmerge takes the update out and leaves merged at True: the layer then runs as its bare base.
# %% lora-merge
def merge(layer: LoRALinear) -> None:
    if layer.merged:
        return
    with torch.no_grad():
        layer.base.weight += layer.scaling * (layer.lora_B @ layer.lora_A)
    layer.merged = True


def unmerge(layer: LoRALinear) -> None:
    if layer.merged:
        with torch.no_grad():
            layer.base.weight -= layer.scaling * (layer.lora_B @ layer.lora_A)
