# loses: test-router-z
# log(sum(exp())): infinite for logits in the thousands.

# %% router-z
def z_loss(logits: Tensor, mask: Tensor | None = None) -> Tensor:
    wide = logits if logits.dtype == torch.float64 else logits.float()
    if mask is not None:
        wide = wide[mask.bool()]
    return wide.exp().sum(dim=1).log().square().mean()
