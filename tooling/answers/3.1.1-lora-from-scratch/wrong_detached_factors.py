# loses: test-lora-forward keeps 1, test-lora-module
# .data "to be safe" cuts the factors off from autograd: right values, no gradients.
# %% lora-forward
def lora_forward(x: Tensor, base: nn.Linear, lora_A: Tensor, lora_B: Tensor, scaling: float) -> Tensor:
    return base(x) + scaling * (x @ lora_A.data.T @ lora_B.data.T)
