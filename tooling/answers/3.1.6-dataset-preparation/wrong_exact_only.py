# loses: test-data-dedup
# Only texts of the very same shingles are duplicates.

# %% data-dedup
def deduplicate(texts: Sequence[str], n: int = 3, threshold: float = 0.7) -> list[int]:
    if n < 1:
        raise ValueError(f"n must be at least 1, not {n}")
    if not 0 < threshold <= 1:
        raise ValueError(f"threshold must be above 0 and at most 1, not {threshold}")
    kept: list[int] = []
    seen: list[set] = []
    for index, text in enumerate(texts):
        words = [w for w in (word.strip(".,;:!?\"'") for word in text.lower().split()) if w]
        shingles = {tuple(words[i : i + n]) for i in range(max(len(words) - n + 1, 1))}
        if not any(shingles == other for other in seen):
            kept.append(index)
            seen.append(shingles)
    return kept
