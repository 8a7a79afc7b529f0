# loses: test-sft-loss
# The model is left in evaluation mode.

# %% sft-loss
def answer_loss(model: nn.Module, examples: Sequence[Mapping[str, str]], batch: int = 32) -> float:
    mode, total, count = model.training, 0.0, 0
    model.eval()
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
    return total / count
