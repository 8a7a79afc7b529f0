# loses: test-simpo-odds, test-simpo-orpo
# log1p(-exp(s)) is -inf near 0 too: exp(s) has rounded to 1 before.

# %% simpo-odds
def log_odds(average: Tensor) -> Tensor:
    return average - torch.log1p(-torch.exp(average))
