# loses: test-archcmp-report keeps 1
# Losses in place of perplexities.

# %% archcmp-report
def report(rows: Mapping[str, Measured], baseline: str) -> str:
    if baseline not in rows:
        raise ValueError(f"there is no row {baseline!r} among {list(rows)}")
    lines = [HEADER.format(baseline)]
    words = {"first": "better", "second": "worse", "undecided": "undecided"}
    for name in sorted(rows, key=lambda name: statistics.mean(rows[name].losses)):
        row = rows[name]
        values = [f(row.losses) for f in (statistics.mean, min, max)]
        word = "baseline" if name == baseline else words[verdict(row.losses, rows[baseline].losses).winner]
        cells = [name, *(f"{value:.2f}" for value in values), word, f"{row.parameters:,}", f"{row.active:,}"]
        cells += [f"{row.flops / 1000:,.1f}", f"{row.tokens_per_second:,.0f}", f"{row.cache_bytes / 1024:,.1f}"]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)
