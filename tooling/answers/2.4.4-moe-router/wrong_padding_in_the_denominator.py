# loses: test-router-balance, test-router-module keeps 1
# Padded rows are set to zero, and the mean still divides by all.

# %% router-balance
def balance_loss(logits: Tensor, indices: Tensor, mask: Tensor | None = None) -> Tensor:
    wide = logits if logits.dtype == torch.float64 else logits.float()
    soft = wide.softmax(dim=1)
    if mask is not None:
        soft, indices = soft * mask[:, None], indices[mask.bool()]
    share = indices.flatten().bincount(minlength=logits.shape[1]) / indices.numel()
    return logits.shape[1] * (share * soft.mean(dim=0)).sum()
