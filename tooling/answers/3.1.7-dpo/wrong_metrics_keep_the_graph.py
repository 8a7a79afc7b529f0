# loses: test-dpo-rewards, test-dpo-train
# The metrics are tensors and keep the graph of a whole forward pass alive.

# %% dpo-rewards
def preference_metrics(
    chosen: Tensor, rejected: Tensor, ref_chosen: Tensor, ref_rejected: Tensor, beta: float
) -> dict[str, float]:
    good = beta * (chosen - ref_chosen)
    bad = beta * (rejected - ref_rejected)
    return {
        "chosen": good.mean(),
        "rejected": bad.mean(),
        "margin": (good - bad).mean(),
        "accuracy": (good > bad).float().mean(),
        "displaced": ((good > bad) & (good < 0)).float().mean(),
    }
