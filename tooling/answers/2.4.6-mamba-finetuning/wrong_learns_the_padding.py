# loses: test-mambaft-collate keeps 1, test-mambaft-step
# Labels are filled up with the pad.

# %% mambaft-collate
def collate(examples: Sequence[tuple[list[int], list[int]]], pad: int, side: str = "right") -> dict[str, Tensor]:
    if not examples or side not in ("left", "right"):
        raise ValueError("need examples, and left or right")
    longest = max(len(prompt) + len(answer) for prompt, answer in examples)
    batch = {"input_ids": [], "attention_mask": [], "labels": []}
    for prompt, answer in examples:
        row = (prompt + answer, [1] * len(prompt + answer), [-100] * len(prompt) + answer)
        for rows, text, filler in zip(batch.values(), row, (pad, 0, pad), strict=True):
            padding = [filler] * (longest - len(text))
            rows.append(padding + text if side == "left" else text + padding)
    return {name: torch.tensor(rows, dtype=torch.long) for name, rows in batch.items()}
