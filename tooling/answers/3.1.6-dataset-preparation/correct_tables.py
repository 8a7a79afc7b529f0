# By tables: every format as a converter, the filter by regular expressions, positions by cumulative sums.

# %% data-filter
def quality_filter(conversations: Sequence[list[dict[str, str]]], longest: int = 2000) -> tuple[list[list[dict[str, str]]], dict[str, int]]:
    import re

    letters = {"system": "s", "user": "u", "assistant": "a"}
    rules = [
        ("empty", lambda c: not c or min(len(m["content"].strip()) for m in c) == 0),
        ("order", lambda c: not re.fullmatch("s?(ua)+", "".join(letters[m["role"]] for m in c))),
        ("long", lambda c: sum(len(m["content"]) for m in c) > longest),
    ]
    verdicts = [next((name for name, broken in rules if broken(c)), None) for c in conversations]
    return [c for c, v in zip(conversations, verdicts, strict=True) if v is None], dict(Counter(v for v in verdicts if v))


# %% data-mask
def attention_mask(segments: Tensor) -> Tensor:
    n = segments.shape[1]
    mask = torch.zeros(len(segments), n, n, dtype=torch.bool)
    for r in range(len(segments)):
        for i in range(n):
            mask[r, i, : i + 1] = (segments[r, : i + 1] == segments[r, i]) & (segments[r, i] > 0)
            mask[r, i, i] = True
    return mask[:, None]
