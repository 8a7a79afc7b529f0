# loses: test-simpo-odds, test-simpo-orpo, test-simpo-module keeps 2
# The sign in front of log(1 - exp(s)) is lost.

# %% simpo-odds
def log_odds(average: Tensor) -> Tensor:
    return average + torch.log(-torch.expm1(average))
