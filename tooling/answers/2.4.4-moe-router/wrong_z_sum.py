# loses: test-router-z
# A sum over tokens: it grows with the batch.

# %% router-z
def z_loss(logits: Tensor, mask: Tensor | None = None) -> Tensor:
    wide = logits if logits.dtype == torch.float64 else logits.float()
    if mask is not None:
        wide = wide[mask.bool()]
    return wide.logsumexp(dim=1).square().sum()
