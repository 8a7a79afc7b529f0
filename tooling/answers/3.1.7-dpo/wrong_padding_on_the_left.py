# loses: test-dpo-collate
# Padding on the left, without positions for it. Through the attention mask the model gets it nearly right.

# %% dpo-collate
def collate(pairs: Sequence[Mapping[str, str]]) -> dict[str, Tensor]:
    if not pairs:
        raise ValueError("collate() needs at least one pair")
    rows = []
    for side in ("chosen", "rejected"):
        for pair in pairs:
            prompt = tokenizer(pair["prompt"])["input_ids"]
            rows.append((prompt, tokenizer(pair[side])["input_ids"] + [tokenizer.eos_token_id]))
    longest = max(len(prompt) + len(answer) for prompt, answer in rows)
    batch = {"input_ids": [], "attention_mask": [], "completion_mask": []}
    for prompt, answer in rows:
        p, a = len(prompt), len(answer)
        rest = longest - p - a
        batch["input_ids"].append([tokenizer.pad_token_id] * rest + prompt + answer)
        batch["attention_mask"].append([0] * rest + [1] * (p + a))
        batch["completion_mask"].append([0] * (rest + p) + [1] * a)
    return {name: torch.tensor(values) for name, values in batch.items()}
