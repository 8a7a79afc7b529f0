# loses: test-router-balance, test-router-module keeps 1
# Padding is left out of the probabilities and not of the counts.

# %% router-balance
def balance_loss(logits: Tensor, indices: Tensor, mask: Tensor | None = None) -> Tensor:
    wide = logits if logits.dtype == torch.float64 else logits.float()
    if mask is not None:
        wide = wide[mask.bool()]
    share = indices.flatten().bincount(minlength=logits.shape[1]) / indices.numel()
    return logits.shape[1] * (share * wide.softmax(dim=1).mean(dim=0)).sum()
