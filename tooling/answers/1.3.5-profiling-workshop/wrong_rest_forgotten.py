# loses: test-profiling-amdahl, test-profiling-all
# What no share covers is left out of the new time.

# %% profiling-amdahl
def predicted_speedup(shares: dict[str, float], factors: dict[str, float]) -> float:
    if any(not factor > 0 for factor in factors.values()):
        raise ValueError(f"factors are above 0: {factors}")
    if not set(factors) <= set(shares) or sum(shares.values()) > 1 + 1e-9:
        raise ValueError(f"shares {shares} do not cover {set(factors) - set(shares)}, or add up to more than 1")
    left = sum(share / factors.get(part, 1.0) for part, share in shares.items())
    return 1 / left if left > 1e-9 else math.inf
