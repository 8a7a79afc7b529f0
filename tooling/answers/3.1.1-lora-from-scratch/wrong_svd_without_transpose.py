# loses: test-lora-svd
# Columns of Vh are taken for the singular vectors; torch.linalg.svd returns V already transposed.
# %% lora-svd
def best_adapter(delta: Tensor, rank: int, scaling: float) -> tuple[Tensor, Tensor]:
    U, S, Vh = torch.linalg.svd(delta, full_matrices=False)
    return Vh[:, :rank].T, U[:, :rank] * S[:rank] / scaling
