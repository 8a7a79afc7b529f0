# loses: test-dpo-loss, test-dpo-train, test-dpo-module
# The labels are believed with probability epsilon.

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
    z = beta * ((chosen - ref_chosen) - (rejected - ref_rejected))
    return (-label_smoothing * logsigmoid(z) - (1 - label_smoothing) * logsigmoid(-z)).mean()
