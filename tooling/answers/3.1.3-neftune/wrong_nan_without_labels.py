# loses: test-neftune-loss
# 0 * NaN for a batch without labels.

# %% neftune-loss
def clean_loss(model: nn.Module, batches: Iterable[Mapping[str, Tensor]]) -> float:
    mode = model.training
    model.eval()
    total, tokens = 0.0, 0
    with torch.no_grad():
        for batch in batches:
            count = int((batch["labels"][:, 1:] != -100).sum())
            total += count * model(**batch).loss.item()
            tokens += count
    model.train(mode)
    if not tokens:
        raise ValueError("no batch has a labelled token")
    return total / tokens
