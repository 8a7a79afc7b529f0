# loses: test-simpo-orpo, test-simpo-module
# The odds of the rejected answer over those of the chosen one.

# %% simpo-orpo
def orpo_loss(chosen: Tensor, rejected: Tensor, nll: Tensor, weight: float) -> Tensor:
    if weight < 0:
        raise ValueError(f"weight must be at least 0, not {weight}")
    ratio = log_odds(rejected) - log_odds(chosen)
    return nll - weight * logsigmoid(ratio).mean()
