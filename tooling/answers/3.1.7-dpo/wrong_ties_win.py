# loses: test-dpo-rewards
# A tie counts as a win, so an untrained policy has an accuracy of 1.

# %% dpo-rewards
def preference_metrics(
    chosen: Tensor, rejected: Tensor, ref_chosen: Tensor, ref_rejected: Tensor, beta: float
) -> dict[str, float]:
    good = beta * (chosen - ref_chosen)
    bad = beta * (rejected - ref_rejected)
    return {
        "chosen": good.mean().item(),
        "rejected": bad.mean().item(),
        "margin": (good - bad).mean().item(),
        "accuracy": (good >= bad).float().mean().item(),
        "displaced": ((good > bad) & (good < 0)).float().mean().item(),
    }
