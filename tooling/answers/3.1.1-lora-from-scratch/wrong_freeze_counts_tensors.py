# loses: test-lora-freeze, test-lora-module
# Counts parameter tensors, where numbers are asked for.
# %% lora-freeze
def freeze_base(model: nn.Module) -> tuple[int, int]:
    for name, p in model.named_parameters():
        p.requires_grad_(name.rpartition(".")[2] in ("lora_A", "lora_B"))
    return len([p for p in model.parameters() if p.requires_grad]), len(list(model.parameters()))
