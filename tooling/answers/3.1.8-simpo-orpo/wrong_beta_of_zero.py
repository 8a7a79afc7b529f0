# loses: test-simpo-loss
# beta = 0 is let through: a loss that never trains anything.

# %% simpo-loss
def simpo_loss(chosen: Tensor, rejected: Tensor, beta: float, gamma: float) -> Tensor:
    if beta < 0:
        raise ValueError(f"beta must be above 0, not {beta}")
    if gamma < 0:
        raise ValueError(f"gamma must be at least 0, not {gamma}")
    return -logsigmoid(beta * (chosen - rejected) - gamma).mean()
