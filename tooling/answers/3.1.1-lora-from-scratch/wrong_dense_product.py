# loses: test-lora-forward keeps 3
# The formula is written down as (B A) x. The numbers are right; the cost is that of a second dense layer and more.
# %% lora-forward
def lora_forward(x: Tensor, base: nn.Linear, lora_A: Tensor, lora_B: Tensor, scaling: float) -> Tensor:
    return base(x) + x @ (scaling * lora_B @ lora_A).T
