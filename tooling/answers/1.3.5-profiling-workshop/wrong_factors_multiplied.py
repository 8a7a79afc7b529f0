# loses: test-profiling-amdahl, test-profiling-all
# Speed-ups of parts are weighted and multiplied, as if each were of the whole.

# %% profiling-amdahl
def predicted_speedup(shares: dict[str, float], factors: dict[str, float]) -> float:
    if any(not factor > 0 for factor in factors.values()):
        raise ValueError(f"factors are above 0: {factors}")
    if not set(factors) <= set(shares) or sum(shares.values()) > 1 + 1e-9:
        raise ValueError(f"shares {shares} do not cover {set(factors) - set(shares)}, or add up to more than 1")
    left = math.prod(1 - share + share / factors.get(part, 1.0) for part, share in shares.items())
    return 1 / left if left > 1e-9 else math.inf
