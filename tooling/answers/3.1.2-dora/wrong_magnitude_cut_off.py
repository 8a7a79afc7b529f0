# loses: test-dora-factor keeps 2, test-dora-layer keeps 4, test-dora-module
# The whole factor is computed without a graph, so the magnitude never learns.
# %% dora-factor
def dora_factor(weight: Tensor, lora_A: Tensor, lora_B: Tensor, scaling: float, magnitude: Tensor) -> Tensor:
    with torch.no_grad():
        norm, _ = decompose(weight + scaling * lora_B @ lora_A)
        norm = norm.masked_fill(norm == 0, 1)
        factor = magnitude / norm
    return factor + 0 * magnitude
