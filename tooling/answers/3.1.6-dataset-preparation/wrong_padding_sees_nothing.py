# loses: test-data-mask
# Padding sees nothing, not even itself.

# %% data-mask
def attention_mask(segments: Tensor) -> Tensor:
    length = segments.shape[1]
    column, row = segments[:, :, None], segments[:, None, :]
    causal = torch.ones(length, length, dtype=torch.bool).tril()
    seen = (column == row) & (column > 0) & causal
    return seen[:, None]
