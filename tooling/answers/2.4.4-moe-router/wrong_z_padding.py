# loses: test-router-z
# Padding counts.

# %% router-z
def z_loss(logits: Tensor, mask: Tensor | None = None) -> Tensor:
    wide = logits if logits.dtype == torch.float64 else logits.float()
    return wide.logsumexp(dim=1).square().mean()
