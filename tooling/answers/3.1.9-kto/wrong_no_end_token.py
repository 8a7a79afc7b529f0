# loses: test-kto-collate, test-kto-module keeps 3
# The end token is forgotten.

# %% kto-collate
def collate(feedback: Sequence[Mapping]) -> dict[str, Tensor]:
    if len(feedback) < 2:
        raise ValueError(f"a batch needs at least 2 entries, not {len(feedback)}: each is matched with another's answer")

    def padded(prompts, answers):
        longest = max(len(p) + len(a) for p, a in zip(prompts, answers, strict=True))
        rows = {"input_ids": [], "attention_mask": [], "completion_mask": []}
        for p, a in zip(prompts, answers, strict=True):
            rest = longest - len(p) - len(a)
            rows["input_ids"].append(p + a + [258] * rest)
            rows["attention_mask"].append([1] * len(p + a) + [0] * rest)
            rows["completion_mask"].append([0] * len(p) + [1] * len(a) + [0] * rest)
        return {name: torch.tensor(values) for name, values in rows.items()}

    prompts = [tokenizer(f["prompt"])["input_ids"] for f in feedback]
    answers = [tokenizer(f["completion"])["input_ids"] for f in feedback]
    batch = padded(prompts, answers)
    batch |= {f"KL_{name}": value for name, value in padded(prompts, answers[-1:] + answers[:-1]).items()}
    return batch | {"label": torch.tensor([f["label"] for f in feedback])}
