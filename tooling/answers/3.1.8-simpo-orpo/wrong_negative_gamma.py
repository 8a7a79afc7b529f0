# loses: test-simpo-loss
# A negative margin is let through.

# %% simpo-loss
def simpo_loss(chosen: Tensor, rejected: Tensor, beta: float, gamma: float) -> Tensor:
    if beta <= 0:
        raise ValueError(f"beta must be above 0, not {beta}")
    return -logsigmoid(beta * (chosen - rejected) - gamma).mean()
