# loses: test-router-balance, test-router-module keeps 1
# The square of the shares: right at first sight, and without a gradient.

# %% router-balance
def balance_loss(logits: Tensor, indices: Tensor, mask: Tensor | None = None) -> Tensor:
    wide = logits if logits.dtype == torch.float64 else logits.float()
    if mask is not None:
        wide, indices = wide[mask.bool()], indices[mask.bool()]
    share = indices.flatten().bincount(minlength=logits.shape[1]) / indices.numel()
    return logits.shape[1] * (share * share + 0 * wide.softmax(dim=1).mean(dim=0)).sum()
