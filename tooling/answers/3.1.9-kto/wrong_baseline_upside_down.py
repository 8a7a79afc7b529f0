# loses: test-kto-baseline, test-kto-train, test-kto-module keeps 3
# Reference less policy.

# %% kto-baseline
def kl_baseline(policy: Tensor, reference: Tensor) -> Tensor:
    return (reference - policy).mean().clamp(min=0).detach()
