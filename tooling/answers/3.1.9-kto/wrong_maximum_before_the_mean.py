# loses: test-kto-baseline, test-kto-train, test-kto-module keeps 3
# Each ratio is cut off at 0, which biases the mean upwards.

# %% kto-baseline
def kl_baseline(policy: Tensor, reference: Tensor) -> Tensor:
    return (policy - reference).clamp(min=0).mean().detach()
