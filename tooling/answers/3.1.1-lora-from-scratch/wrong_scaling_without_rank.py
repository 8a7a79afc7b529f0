# loses: test-lora-layer keeps 2, test-lora-module
# alpha is used as it is; an adapter of rank 8 then learns eight times as hard, and PEFT disagrees.
# %% lora-layer
class LoRALinear(nn.Module):
    def __init__(self, base: nn.Linear, lora_A: nn.Parameter, lora_B: nn.Parameter, alpha: float) -> None:
        super().__init__()
        base.requires_grad_(False)
        self.base = base
        self.lora_A = lora_A
        self.lora_B = lora_B
        self.scaling = float(alpha)
        self.merged = False

    def forward(self, x: Tensor) -> Tensor:
        if self.merged:
            return self.base(x)
        return lora_forward(x, self.base, self.lora_A, self.lora_B, self.scaling)
