# The reference with its decisions in another order.

# %% sft-loss
def answer_loss(model: nn.Module, examples: Sequence[Mapping[str, str]], batch: int = 32) -> float:
    total, count = 0.0, 0
    mode = model.training
    model.train(False)
    for first in range(0, len(examples), batch):
        texts = []
        for example in examples[first : first + batch]:
            prompt, answer = (tokenizer(example[name])["input_ids"] for name in ("prompt", "completion"))
            texts.append((prompt + answer + [257], [-100] * len(prompt) + answer + [257]))
        longest = max(len(ids) for ids, _ in texts)
        ids = torch.tensor([row + [258] * (longest - len(row)) for row, _ in texts])
        labels = torch.tensor([row + [-100] * (longest - len(row)) for _, row in texts])
        with torch.no_grad():
            logits = model(input_ids=ids, attention_mask=(ids != 258).long()).logits[:, :-1]
        total += cross_entropy(logits.flatten(0, 1), labels[:, 1:].flatten(), reduction="sum").item()
        count += (labels[:, 1:] != -100).sum().item()
    model.train(mode)
    return total / count


# %% sft-schedule
def learning_rate_at(step: int, total: int, warmup: int, peak: float, floor: float = 0.0) -> float:
    if not 0 <= warmup < total or step < 0:
        raise ValueError(f"0 <= warmup < total and step >= 0 are needed: {step=}, {total=}, {warmup=}")
    if step < warmup:
        return peak * step / warmup
    progress = min(1.0, (step - warmup) / (total - warmup))
    return floor + (peak - floor) * (math.cos(math.pi * progress) + 1) / 2
