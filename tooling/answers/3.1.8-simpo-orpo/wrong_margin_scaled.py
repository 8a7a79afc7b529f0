# loses: test-simpo-loss, test-simpo-module
# beta scales the margin as well.

# %% simpo-loss
def simpo_loss(chosen: Tensor, rejected: Tensor, beta: float, gamma: float) -> Tensor:
    if beta <= 0:
        raise ValueError(f"beta must be above 0, not {beta}")
    if gamma < 0:
        raise ValueError(f"gamma must be at least 0, not {gamma}")
    return -logsigmoid(beta * (chosen - rejected - gamma)).mean()
