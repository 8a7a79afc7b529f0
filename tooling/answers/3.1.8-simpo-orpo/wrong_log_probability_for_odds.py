# loses: test-simpo-orpo, test-simpo-module keeps 2
# A difference of averages: SimPO with beta 1 and no margin.

# %% simpo-orpo
def orpo_loss(chosen: Tensor, rejected: Tensor, nll: Tensor, weight: float) -> Tensor:
    if weight < 0:
        raise ValueError(f"weight must be at least 0, not {weight}")
    ratio = chosen - rejected
    return nll - weight * logsigmoid(ratio).mean()
