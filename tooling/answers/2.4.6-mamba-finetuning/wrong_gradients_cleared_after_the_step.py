# loses: test-mambaft-step keeps 4
# Gradients are cleared again after the step; nobody can look at them.

# %% mambaft-step
def train_step(model: nn.Module, optimizer: torch.optim.Optimizer, batch: dict[str, Tensor], micro: int) -> float:
    total = int((batch["labels"][:, 1:] != -100).sum())
    if total == 0:
        raise ValueError("no label counts in this batch")
    optimizer.zero_grad()
    loss = 0.0
    parts = [batch[name].split(micro) for name in ("input_ids", "attention_mask", "labels")]
    for ids, mask, labels in zip(*parts, strict=True):
        logits = model(input_ids=ids, attention_mask=mask).logits[:, :-1]
        part = F.cross_entropy(logits.flatten(0, 1), labels[:, 1:].flatten(), reduction="sum") / total
        part.backward()
        loss += part.item()
    optimizer.step()
    optimizer.zero_grad()
    return loss
