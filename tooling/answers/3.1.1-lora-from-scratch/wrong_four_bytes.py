# loses: test-lora-memory, test-lora-module
# Four bytes a number, whatever the dtype.
# %% lora-memory
def training_memory(model: nn.Module) -> dict[str, int]:
    weights = 4 * sum(p.numel() for p in model.parameters())
    trained = 4 * sum(p.numel() for p in model.parameters() if p.requires_grad)
    return {"weights": weights, "gradients": trained, "adam": 2 * trained}
