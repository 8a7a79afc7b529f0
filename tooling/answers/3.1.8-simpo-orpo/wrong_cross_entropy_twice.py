# loses: test-simpo-orpo, test-simpo-module keeps 2
# The cross-entropy of the pairs is added instead of the one that was given.

# %% simpo-orpo
def orpo_loss(chosen: Tensor, rejected: Tensor, nll: Tensor, weight: float) -> Tensor:
    if weight < 0:
        raise ValueError(f"weight must be at least 0, not {weight}")
    ratio = log_odds(chosen) - log_odds(rejected)
    return -chosen.mean() - weight * logsigmoid(ratio).mean()
