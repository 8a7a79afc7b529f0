# loses: test-kto-baseline
# The baseline keeps its graph. (Under no_grad in the loop it does no harm there.)

# %% kto-baseline
def kl_baseline(policy: Tensor, reference: Tensor) -> Tensor:
    return (policy - reference).mean().clamp(min=0)
