# loses: test-kto-loss, test-kto-train, test-kto-module
# A mean for each kind; NaN for a batch of one kind.

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
    terms = weight * torch.sigmoid(-z)
    return terms[label].mean() + terms[~label].mean()
