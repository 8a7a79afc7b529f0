# loses: test-dpo-rewards, test-dpo-train
# The reward is beta times the policy's log-probability, without the reference.

# %% dpo-rewards
def preference_metrics(
    chosen: Tensor, rejected: Tensor, ref_chosen: Tensor, ref_rejected: Tensor, beta: float
) -> dict[str, float]:
    good = beta * chosen
    bad = beta * rejected
    return {
        "chosen": good.mean().item(),
        "rejected": bad.mean().item(),
        "margin": (good - bad).mean().item(),
        "accuracy": (good > bad).float().mean().item(),
        "displaced": ((good > bad) & (good < 0)).float().mean().item(),
    }
