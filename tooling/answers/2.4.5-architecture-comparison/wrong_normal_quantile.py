# loses: test-archcmp-verdict
# 1.96 for every number of seeds.

# %% archcmp-verdict
def verdict(first: Sequence[float], second: Sequence[float]) -> Verdict:
    if len(first) != len(second) or not 2 <= len(first) <= 10:
        raise ValueError(f"{len(first)} and {len(second)} losses: 2 to 10 pairs are needed")
    if not all(map(math.isfinite, (*first, *second))):
        raise ValueError("a loss is not finite: report the run that diverged, it has no difference")
    gaps = [a - b for a, b in zip(first, second, strict=True)]
    mean = statistics.mean(gaps)
    half = 1.96 * statistics.stdev(gaps) / math.sqrt(len(gaps))
    winner = "first" if mean + half < 0 else "second" if mean - half > 0 else "undecided"
    return Verdict(mean, mean - half, mean + half, winner)
