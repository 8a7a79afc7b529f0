# loses: test-sft-schedule
# Beyond the end the rate rises again.

# %% sft-schedule
def learning_rate_at(step: int, total: int, warmup: int, peak: float, floor: float = 0.0) -> float:
    if not 0 <= warmup < total or step < 0:
        raise ValueError(f"0 <= warmup < total and step >= 0 are needed: {step=}, {total=}, {warmup=}")
    if step < warmup:
        return peak * step / warmup
    progress = (step - warmup) / (total - warmup)
    return floor + (peak - floor) * 0.5 * (1 + math.cos(math.pi * progress))
