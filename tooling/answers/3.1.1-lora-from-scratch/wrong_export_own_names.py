# loses: test-lora-export, test-lora-module
# The names of the own model, which PEFT does not find. It loads nothing.
# %% lora-export
def export_adapter(model: nn.Module) -> dict[str, Tensor]:
    return {
        name: p.detach().clone()
        for name, p in model.named_parameters()
        if name.rpartition(".")[2] in ("lora_A", "lora_B")
    }
