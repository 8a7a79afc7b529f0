# loses: test-router-balance, test-router-module keeps 1
# Padding is counted like any token.

# %% router-balance
def balance_loss(logits: Tensor, indices: Tensor, mask: Tensor | None = None) -> Tensor:
    wide = logits if logits.dtype == torch.float64 else logits.float()
    share = indices.flatten().bincount(minlength=logits.shape[1]) / indices.numel()
    return logits.shape[1] * (share * wide.softmax(dim=1).mean(dim=0)).sum()
