# loses: test-dpo-ipo, test-dpo-module keeps 2
# Sums where averages over the tokens are asked for, so long answers ask for more.

# %% dpo-ipo
def ipo_loss(
    chosen: Tensor, rejected: Tensor, ref_chosen: Tensor, ref_rejected: Tensor, lengths: tuple[Tensor, Tensor], beta: float
) -> Tensor:
    good = (chosen - ref_chosen)
    bad = (rejected - ref_rejected)
    return ((good - bad - 1 / (2 * beta)) ** 2).mean()
