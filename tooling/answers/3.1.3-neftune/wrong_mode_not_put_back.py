# loses: test-neftune-loss
# The model is left in evaluation mode.

# %% neftune-loss
def clean_loss(model: nn.Module, batches: Iterable[Mapping[str, Tensor]]) -> float:
    mode = model.training
    model.eval()
    total, tokens = 0.0, 0
    with torch.no_grad():
        for batch in batches:
            count = int((batch["labels"][:, 1:] != -100).sum())
            if count:
                total += count * model(**batch).loss.item()
                tokens += count
    if not tokens:
        raise ValueError("no batch has a labelled token")
    return total / tokens
