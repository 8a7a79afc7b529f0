# loses: test-dora-decompose, test-dora-drift
# Rows of zeros are divided by their length.
# %% dora-decompose
def decompose(weight: Tensor) -> tuple[Tensor, Tensor]:
    magnitude = torch.linalg.vector_norm(weight, dim=1)
    return magnitude, weight / magnitude[:, None]
