# loses: test-sft-schedule, test-sft-run keeps 0
# The cosine starts at step 0.

# %% sft-schedule
def learning_rate_at(step: int, total: int, warmup: int, peak: float, floor: float = 0.0) -> float:
    if not 0 <= warmup < total or step < 0:
        raise ValueError(f"0 <= warmup < total and step >= 0 are needed: {step=}, {total=}, {warmup=}")
    if step < warmup:
        return peak * step / warmup
    progress = min(1.0, step / total)
    return floor + (peak - floor) * 0.5 * (1 + math.cos(math.pi * progress))
