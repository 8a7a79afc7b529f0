# loses: test-simpo-length
# The means are not taken off: a cosine, not a correlation.

# %% simpo-length
def length_correlation(scores: Sequence[float], lengths: Sequence[int]) -> float:
    n = max(len(scores), 1)
    x, y = list(scores), list(lengths)
    product = math.fsum(a * b for a, b in zip(x, y, strict=True))
    spread = math.fsum(a * a for a in x) * math.fsum(b * b for b in y)
    return product / math.sqrt(spread) if spread else 0.0
