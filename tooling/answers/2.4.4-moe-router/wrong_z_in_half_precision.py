# loses: test-router-z
# The log-sum-exp is taken in bfloat16.

# %% router-z
def z_loss(logits: Tensor, mask: Tensor | None = None) -> Tensor:
    wide = logits
    if mask is not None:
        wide = wide[mask.bool()]
    return wide.logsumexp(dim=1).square().mean()
