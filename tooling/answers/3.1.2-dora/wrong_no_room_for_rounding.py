# loses: test-dora-compare keeps 1
# Ties count, and yet rounding decides which they are: 0.1 + 0.2 - 0.3 is not 0.

# %% dora-compare
def compare(first: Mapping[int, float], second: Mapping[int, float]) -> dict[str, float]:
    if set(first) != set(second) or len(first) < 2:
        raise ValueError("pairs are needed")
    differences = [second[k] - first[k] for k in first]
    n, mean = len(differences), sum(differences) / len(differences)
    deviation = math.sqrt(sum((d - mean) ** 2 for d in differences) / (n - 1))
    means = [sum(s * d for s, d in zip(signs, differences, strict=True)) / n for signs in itertools.product((1, -1), repeat=n)]
    p = sum(abs(value) >= abs(mean) for value in means) / len(means)
    return {"difference": mean, "deviation": deviation, "error": deviation / math.sqrt(n), "p_value": p}
