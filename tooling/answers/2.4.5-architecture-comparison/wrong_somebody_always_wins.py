# loses: test-archcmp-verdict, test-archcmp-report keeps 1
# The winner from the mean alone (Common mistake 7).

# %% archcmp-verdict
def verdict(first: Sequence[float], second: Sequence[float]) -> Verdict:
    if len(first) != len(second) or not 2 <= len(first) <= 10:
        raise ValueError(f"{len(first)} and {len(second)} losses: 2 to 10 pairs are needed")
    if not all(map(math.isfinite, (*first, *second))):
        raise ValueError("a loss is not finite: report the run that diverged, it has no difference")
    gaps = [a - b for a, b in zip(first, second, strict=True)]
    mean = statistics.mean(gaps)
    half = T_975[len(gaps) - 1] * statistics.stdev(gaps) / math.sqrt(len(gaps))
    winner = "first" if mean < 0 else "second"
    return Verdict(mean, mean - half, mean + half, winner)
