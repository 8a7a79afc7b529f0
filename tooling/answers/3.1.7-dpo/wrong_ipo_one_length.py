# loses: test-dpo-ipo, test-dpo-module keeps 2
# Both log-ratios are divided by the length of the chosen answer.

# %% dpo-ipo
def ipo_loss(
    chosen: Tensor, rejected: Tensor, ref_chosen: Tensor, ref_rejected: Tensor, lengths: tuple[Tensor, Tensor], beta: float
) -> Tensor:
    good = (chosen - ref_chosen) / lengths[0].clamp(min=1)
    bad = (rejected - ref_rejected) / lengths[0].clamp(min=1)
    return ((good - bad - 1 / (2 * beta)) ** 2).mean()
