# loses: test-dpo-gradient
# The chosen answer is pushed down and the rejected one pulled up.

# %% dpo-gradient
def dpo_gradient(
    chosen: Tensor, rejected: Tensor, ref_chosen: Tensor, ref_rejected: Tensor, beta: float
) -> tuple[Tensor, Tensor]:
    with torch.no_grad():
        delta = (chosen - ref_chosen) - (rejected - ref_rejected)
        weight = beta * torch.sigmoid(-beta * delta) / len(chosen)
        return weight, -weight
