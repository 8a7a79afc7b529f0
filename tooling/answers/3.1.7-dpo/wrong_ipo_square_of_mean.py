# loses: test-dpo-ipo, test-dpo-module keeps 2
# The square of the mean distance: pairs that are off in both directions cancel.

# %% dpo-ipo
def ipo_loss(
    chosen: Tensor, rejected: Tensor, ref_chosen: Tensor, ref_rejected: Tensor, lengths: tuple[Tensor, Tensor], beta: float
) -> Tensor:
    good = (chosen - ref_chosen) / lengths[0].clamp(min=1)
    bad = (rejected - ref_rejected) / lengths[1].clamp(min=1)
    return (good - bad - 1 / (2 * beta)).mean() ** 2
