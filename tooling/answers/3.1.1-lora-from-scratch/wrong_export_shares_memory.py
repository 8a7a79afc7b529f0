# loses: test-lora-export
# detach() without clone(): the exported tensors go on changing with the model.
# %% lora-export
def export_adapter(model: nn.Module) -> dict[str, Tensor]:
    return {
        f"base_model.model.{name}.weight": p.detach()
        for name, p in model.named_parameters()
        if name.rpartition(".")[2] in ("lora_A", "lora_B")
    }
