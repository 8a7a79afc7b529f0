# loses: test-data-mask, test-data-module keeps 2
# The axis of the heads is missing.

# %% data-mask
def attention_mask(segments: Tensor) -> Tensor:
    length = segments.shape[1]
    column, row = segments[:, :, None], segments[:, None, :]
    causal = torch.ones(length, length, dtype=torch.bool).tril()
    seen = (column == row) & (column > 0) & causal
    return (seen | torch.eye(length, dtype=torch.bool))
