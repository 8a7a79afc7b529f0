# -log sigma(z) is softplus(-z). torch's goes over to a straight line at 20, which is off by 2e-9.

# %% dpo-loss
def dpo_loss(
    chosen: Tensor,
    rejected: Tensor,
    ref_chosen: Tensor,
    ref_rejected: Tensor,
    beta: float,
    label_smoothing: float = 0.0,
) -> Tensor:
    if beta <= 0:
        raise ValueError(f"beta must be above 0, not {beta}")
    if not 0 <= label_smoothing < 0.5:
        raise ValueError(f"label_smoothing must be at least 0 and below 0.5, not {label_smoothing}")
    z = beta * ((chosen - rejected) - (ref_chosen - ref_rejected))
    softplus = nn.functional.softplus
    return ((1 - label_smoothing) * softplus(-z) + label_smoothing * softplus(z)).mean()
