# loses: test-router-z
# The log-sum-exp of log-probabilities is 0: the loss never moves.

# %% router-z
def z_loss(logits: Tensor, mask: Tensor | None = None) -> Tensor:
    wide = logits if logits.dtype == torch.float64 else logits.float()
    if mask is not None:
        wide = wide[mask.bool()]
    return wide.log_softmax(dim=1).logsumexp(dim=1).square().mean()
