# loses: test-lora-merge
# A new nn.Parameter takes the place of the weight: it trains, and everything that held the old one is left behind.
# %% lora-merge
def merge(layer: LoRALinear) -> None:
    if not layer.merged:
        layer.base.weight = nn.Parameter(layer.base.weight + layer.scaling * layer.lora_B @ layer.lora_A)
        layer.merged = True


def unmerge(layer: LoRALinear) -> None:
    if layer.merged:
        layer.base.weight = nn.Parameter(layer.base.weight - layer.scaling * layer.lora_B @ layer.lora_A)
        layer.merged = False
