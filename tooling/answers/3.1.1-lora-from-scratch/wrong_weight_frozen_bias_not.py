# loses: test-lora-layer keeps 1
# Only the weight is frozen. The bias goes on training, and an adapter file without it is not what was trained.
# %% lora-layer
class LoRALinear(nn.Module):
    def __init__(self, base: nn.Linear, lora_A: nn.Parameter, lora_B: nn.Parameter, alpha: float) -> None:
        super().__init__()
        base.weight.requires_grad = False
        self.base = base
        self.lora_A = lora_A
        self.lora_B = lora_B
        self.scaling = alpha / lora_A.shape[0]
        self.merged = False

    def forward(self, x: Tensor) -> Tensor:
        if self.merged:
            return self.base(x)
        return lora_forward(x, self.base, self.lora_A, self.lora_B, self.scaling)
