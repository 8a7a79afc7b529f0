# loses: test-dora-compare keeps 2
# Compares what both have, and says nothing of what is missing.
# %% dora-compare
def compare(first: Mapping[int, float], second: Mapping[int, float]) -> dict[str, float]:
    if len(first) < 2:
        raise ValueError('too few')
    differences = [second[k] - first[k] for k in first if k in second] or [0.0, 0.0]
    n, mean = len(differences), sum(differences) / len(differences)
    deviation = math.sqrt(sum((d - mean) ** 2 for d in differences) / (n - 1))
    means = [sum(s * d for s, d in zip(signs, differences, strict=True)) / n for signs in itertools.product((1, -1), repeat=n)]
    p = sum(abs(value) >= abs(mean) - 1e-12 for value in means) / len(means)
    return {"difference": mean, "deviation": deviation, "error": deviation / math.sqrt(n), "p_value": p}
