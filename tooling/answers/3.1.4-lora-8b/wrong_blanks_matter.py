# loses: test-sft-split
# Copies that differ in white space fall on two sides.

# %% sft-split
def split_by_prompt(examples: Sequence[Mapping], share: float, seed: int = 0) -> tuple[list, list]:
    if not 0 < share < 1:
        raise ValueError(f"share must lie between 0 and 1, not {share}")
    train, validation = [], []
    for example in examples:
        plain = example["prompt"].lower()
        number = int.from_bytes(hashlib.sha256(f"{seed}:{plain}".encode()).digest()[:8], "big")
        (validation if number < share * 2**64 else train).append(example)
    return train, validation
