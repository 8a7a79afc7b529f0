# loses: test-kto-loss keeps 1, test-kto-train, test-kto-module keeps 3
# -log sigma: a logistic regression on thumbs, without a bound.

# %% kto-loss
def kto_loss(
    policy: Tensor,
    reference: Tensor,
    label: Tensor,
    baseline: Tensor,
    beta: float,
    weights: tuple[float, float] = (1.0, 1.0),
) -> Tensor:
    if beta <= 0:
        raise ValueError(f"beta must be above 0, not {beta}")
    z = beta * (policy - reference - baseline)
    z = torch.where(label, z, -z)
    weight = torch.where(label, weights[0], weights[1])
    return (weight * torch.nn.functional.softplus(-z)).mean()
