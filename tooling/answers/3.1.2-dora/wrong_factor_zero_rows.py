# loses: test-dora-factor
# A row that the update cancels gives 0 / 0.
# %% dora-factor
def dora_factor(weight: Tensor, lora_A: Tensor, lora_B: Tensor, scaling: float, magnitude: Tensor) -> Tensor:
    with torch.no_grad():
        norm, _ = decompose(weight + scaling * lora_B @ lora_A)
    return magnitude / norm
