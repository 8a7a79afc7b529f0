# loses: test-router-balance
# The softmax is taken in bfloat16.

# %% router-balance
def balance_loss(logits: Tensor, indices: Tensor, mask: Tensor | None = None) -> Tensor:
    wide = logits
    if mask is not None:
        wide, indices = wide[mask.bool()], indices[mask.bool()]
    share = indices.flatten().bincount(minlength=logits.shape[1]) / indices.numel()
    return logits.shape[1] * (share * wide.softmax(dim=1).mean(dim=0)).sum()
