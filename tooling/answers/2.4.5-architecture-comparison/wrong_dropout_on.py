# loses: test-archcmp-loss
# The model stays in training mode.

# %% archcmp-loss
def heldout_loss(model: nn.Module, batches: Sequence[Tensor], pad: int = 258) -> float:
    mode, loss, count = model.training, 0.0, 0
    with torch.no_grad():
        for ids in batches:
            logits, target = model(input_ids=ids, use_cache=False).logits[:, :-1], ids[:, 1:]
            logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
            loss += cross_entropy(logits.flatten(0, 1), target.flatten(), ignore_index=pad, reduction="sum").item()
            count += (target != pad).sum().item()
    model.train(mode)
    if count == 0:
        raise ValueError("there is no token to predict")
    return loss / count
