# loses: test-router-balance
# Experts at the end that nobody chose are not counted, and shapes do not fit.

# %% router-balance
def balance_loss(logits: Tensor, indices: Tensor, mask: Tensor | None = None) -> Tensor:
    wide = logits if logits.dtype == torch.float64 else logits.float()
    if mask is not None:
        wide, indices = wide[mask.bool()], indices[mask.bool()]
    share = indices.flatten().bincount() / indices.numel()
    return logits.shape[1] * (share * wide.softmax(dim=1).mean(dim=0)).sum()
