# loses: test-dpo-gradient
# 1 - sigmoid(z) has no digits left for a large margin.

# %% dpo-gradient
def dpo_gradient(
    chosen: Tensor, rejected: Tensor, ref_chosen: Tensor, ref_rejected: Tensor, beta: float
) -> tuple[Tensor, Tensor]:
    with torch.no_grad():
        delta = (chosen - ref_chosen) - (rejected - ref_rejected)
        weight = beta * (1 - torch.sigmoid(beta * delta)) / len(chosen)
        return -weight, weight
