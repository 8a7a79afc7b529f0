# loses: test-simpo-orpo
# A negative weight is let through.

# %% simpo-orpo
def orpo_loss(chosen: Tensor, rejected: Tensor, nll: Tensor, weight: float) -> Tensor:
    ratio = log_odds(chosen) - log_odds(rejected)
    return nll - weight * logsigmoid(ratio).mean()
