# loses: test-kto-gradient
# All derivatives are below 0.

# %% kto-gradient
def kto_gradient(
    policy: Tensor,
    reference: Tensor,
    label: Tensor,
    baseline: Tensor,
    beta: float,
    weights: tuple[float, float] = (1.0, 1.0),
) -> Tensor:
    with torch.no_grad():
        z = beta * (policy - reference - baseline)
        weight = torch.where(label, -weights[0], -weights[1])
        return weight * beta * torch.sigmoid(z) * torch.sigmoid(-z) / len(policy)
