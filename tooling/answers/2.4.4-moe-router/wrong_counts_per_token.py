# loses: test-router-balance, test-router-module keeps 1
# Counts are divided by tokens, not places, as transformers does: k times too much.

# %% router-balance
def balance_loss(logits: Tensor, indices: Tensor, mask: Tensor | None = None) -> Tensor:
    wide = logits if logits.dtype == torch.float64 else logits.float()
    if mask is not None:
        wide, indices = wide[mask.bool()], indices[mask.bool()]
    share = indices.flatten().bincount(minlength=logits.shape[1]) / len(indices)
    return logits.shape[1] * (share * wide.softmax(dim=1).mean(dim=0)).sum()
