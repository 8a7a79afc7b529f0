# loses: test-simpo-length
# Divided by the product of the sums of squares, without the root.

# %% simpo-length
def length_correlation(scores: Sequence[float], lengths: Sequence[int]) -> float:
    n = max(len(scores), 1)
    x = [s - math.fsum(scores) / n for s in scores]
    y = [v - math.fsum(lengths) / n for v in lengths]
    product = math.fsum(a * b for a, b in zip(x, y, strict=True))
    spread = math.fsum(a * a for a in x) * math.fsum(b * b for b in y)
    return product / spread if spread else 0.0
