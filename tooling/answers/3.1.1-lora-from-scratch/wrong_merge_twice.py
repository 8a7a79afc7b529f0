# loses: test-lora-merge
# The flag is set and never looked at: a second merge adds the update again, a second unmerge subtracts it again.
# %% lora-merge
def merge(layer: LoRALinear) -> None:
    with torch.no_grad():
        layer.base.weight += layer.scaling * (layer.lora_B @ layer.lora_A)
    layer.merged = True


def unmerge(layer: LoRALinear) -> None:
    with torch.no_grad():
        layer.base.weight -= layer.scaling * (layer.lora_B @ layer.lora_A)
    layer.merged = False
