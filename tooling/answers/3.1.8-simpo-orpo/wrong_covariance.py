# loses: test-simpo-length
# The covariance: it grows with the units.

# %% simpo-length
def length_correlation(scores: Sequence[float], lengths: Sequence[int]) -> float:
    n = max(len(scores), 1)
    x = [s - math.fsum(scores) / n for s in scores]
    y = [v - math.fsum(lengths) / n for v in lengths]
    product = math.fsum(a * b for a, b in zip(x, y, strict=True))
    spread = math.fsum(a * a for a in x) * math.fsum(b * b for b in y)
    return product / n if spread else 0.0
