# -log sigma(z) is softplus(-z). torch's goes over to a straight line at 20, which is off by 2e-9.

# %% simpo-loss
def simpo_loss(chosen: Tensor, rejected: Tensor, beta: float, gamma: float) -> Tensor:
    if beta <= 0:
        raise ValueError(f"beta must be above 0, not {beta}")
    if gamma < 0:
        raise ValueError(f"gamma must be at least 0, not {gamma}")
    return nn.functional.softplus(gamma - beta * (chosen - rejected)).mean()
