# loses: test-dora-factor keeps 2, test-dora-layer keeps 4, test-dora-module
# The norm stays in the graph: the exact gradient, a matrix of the size of W kept per layer, and not what PEFT computes.
# %% dora-factor
def dora_factor(weight: Tensor, lora_A: Tensor, lora_B: Tensor, scaling: float, magnitude: Tensor) -> Tensor:
    norm, _ = decompose(weight + scaling * lora_B @ lora_A)
    return magnitude / norm.masked_fill(norm == 0, 1)
