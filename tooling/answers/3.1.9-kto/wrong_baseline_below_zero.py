# loses: test-kto-baseline, test-kto-train, test-kto-module keeps 3
# The estimate is not cut off at 0.

# %% kto-baseline
def kl_baseline(policy: Tensor, reference: Tensor) -> Tensor:
    return (policy - reference).mean().detach()
