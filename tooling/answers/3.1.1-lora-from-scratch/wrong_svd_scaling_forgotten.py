# loses: test-lora-svd
# The product is right and the layer then multiplies it by the scaling once more.
# %% lora-svd
def best_adapter(delta: Tensor, rank: int, scaling: float) -> tuple[Tensor, Tensor]:
    U, S, Vh = torch.linalg.svd(delta, full_matrices=False)
    return Vh[:rank], U[:, :rank] * S[:rank]
