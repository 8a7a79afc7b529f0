# loses: test-data-mask
# Padding is a segment of its own.

# %% data-mask
def attention_mask(segments: Tensor) -> Tensor:
    length = segments.shape[1]
    column, row = segments[:, :, None], segments[:, None, :]
    causal = torch.ones(length, length, dtype=torch.bool).tril()
    seen = (column == row) & causal
    return (seen | torch.eye(length, dtype=torch.bool))[:, None]
