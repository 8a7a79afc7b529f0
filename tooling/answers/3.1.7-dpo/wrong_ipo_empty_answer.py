# loses: test-dpo-ipo
# 0 / 0 for an answer without a token.

# %% dpo-ipo
def ipo_loss(
    chosen: Tensor, rejected: Tensor, ref_chosen: Tensor, ref_rejected: Tensor, lengths: tuple[Tensor, Tensor], beta: float
) -> Tensor:
    good = (chosen - ref_chosen) / lengths[0]
    bad = (rejected - ref_rejected) / lengths[1]
    return ((good - bad - 1 / (2 * beta)) ** 2).mean()
