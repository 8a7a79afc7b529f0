# loses: test-data-mask, test-data-module keeps 2
# The causal triangle is forgotten.

# %% data-mask
def attention_mask(segments: Tensor) -> Tensor:
    length = segments.shape[1]
    column, row = segments[:, :, None], segments[:, None, :]
    seen = (column == row) & (column > 0)
    return (seen | torch.eye(length, dtype=torch.bool))[:, None]
