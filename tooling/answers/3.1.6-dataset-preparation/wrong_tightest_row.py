# loses: test-data-pack
# Best fit: each example goes into the fullest row with room, not into the first.

# %% data-pack
def pack(examples: Sequence[Mapping[str, list[int]]], length: int) -> dict[str, Tensor]:
    if any(not 1 <= len(e["input_ids"]) <= length for e in examples):
        raise ValueError(f"every example must have from 1 to {length} tokens")
    rows = []
    for example in sorted(examples, key=lambda e: len(e["input_ids"]), reverse=True):
        size = len(example["input_ids"])
        fits = [row for row in rows if sum(len(e["input_ids"]) for e in row) + size <= length]
        if fits:
            max(fits, key=lambda row: sum(len(e["input_ids"]) for e in row)).append(example)
        else:
            rows.append([example])
    out = {name: torch.full((len(rows), length), value) for name, value in
           (("input_ids", PAD), ("labels", IGNORE), ("position_ids", 0), ("segments", 0))}
    for r, row in enumerate(rows):
        start = 0
        for s, example in enumerate(row, 1):
            stop = start + len(example["input_ids"])
            out["input_ids"][r, start:stop] = torch.tensor(example["input_ids"])
            out["labels"][r, start:stop] = torch.tensor(example["labels"])
            out["position_ids"][r, start:stop] = torch.arange(stop - start)
            out["segments"][r, start:stop] = s
            start = stop
    return out
