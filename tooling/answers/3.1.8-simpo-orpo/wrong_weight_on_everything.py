# loses: test-simpo-orpo, test-simpo-module keeps 2
# The cross-entropy is weighted too.

# %% simpo-orpo
def orpo_loss(chosen: Tensor, rejected: Tensor, nll: Tensor, weight: float) -> Tensor:
    if weight < 0:
        raise ValueError(f"weight must be at least 0, not {weight}")
    ratio = log_odds(chosen) - log_odds(rejected)
    return weight * (nll - logsigmoid(ratio).mean())
