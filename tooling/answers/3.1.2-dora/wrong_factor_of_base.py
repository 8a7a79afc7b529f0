# loses: test-dora-factor, test-dora-layer keeps 2, test-dora-merge keeps 1, test-dora-module
# The norm of W alone: the direction is not brought back to length 1.
# %% dora-factor
def dora_factor(weight: Tensor, lora_A: Tensor, lora_B: Tensor, scaling: float, magnitude: Tensor) -> Tensor:
    with torch.no_grad():
        norm, _ = decompose(weight)
        norm = norm.masked_fill(norm == 0, 1)
    return magnitude / norm
