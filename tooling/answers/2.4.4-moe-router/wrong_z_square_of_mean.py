# loses: test-router-z
# The square is taken of the mean.

# %% router-z
def z_loss(logits: Tensor, mask: Tensor | None = None) -> Tensor:
    wide = logits if logits.dtype == torch.float64 else logits.float()
    if mask is not None:
        wide = wide[mask.bool()]
    return wide.logsumexp(dim=1).mean().square()
