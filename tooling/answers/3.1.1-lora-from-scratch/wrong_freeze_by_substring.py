# loses: test-lora-freeze
# "lora" somewhere in the name is enough, so that a norm called lora_A_norm trains as well.
# %% lora-freeze
def freeze_base(model: nn.Module) -> tuple[int, int]:
    trainable = total = 0
    for name, p in model.named_parameters():
        p.requires_grad_("lora_" in name)
        total += p.numel()
        trainable += p.numel() * p.requires_grad
    return trainable, total
