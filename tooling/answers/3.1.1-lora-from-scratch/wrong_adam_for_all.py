# loses: test-lora-memory, test-lora-module
# Adam's moments are counted for every parameter, frozen or not: the saving that LoRA is made for does not show.
# %% lora-memory
def training_memory(model: nn.Module) -> dict[str, int]:
    weights = sum(p.numel() * p.element_size() for p in model.parameters())
    gradients = sum(p.numel() * p.element_size() for p in model.parameters() if p.requires_grad)
    return {"weights": weights, "gradients": gradients, "adam": 2 * weights}
