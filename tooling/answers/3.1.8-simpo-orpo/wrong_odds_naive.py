# loses: test-simpo-odds, test-simpo-orpo
# log(1 - exp(s)) is -inf near 0.

# %% simpo-odds
def log_odds(average: Tensor) -> Tensor:
    return average - torch.log(1 - torch.exp(average))
