# loses: test-lora-forward keeps 1, test-lora-module
# The brackets end too late: the base layer is scaled as well.
# %% lora-forward
def lora_forward(x: Tensor, base: nn.Linear, lora_A: Tensor, lora_B: Tensor, scaling: float) -> Tensor:
    return (base(x) + x @ lora_A.T @ lora_B.T) * scaling
