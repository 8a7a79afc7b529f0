# loses: test-neftune-train keeps 3
# A hook for alpha = 0 as well: nothing is added, but random numbers are used up.

# %% neftune-train
def train_sft(
    model: nn.Module,
    batches: Iterable[Mapping[str, Tensor]],
    learning_rate: float,
    alpha: float = 0.0,
    pad_token_id: int | None = None,
) -> list[float]:
    handle = attach_neftune(model, alpha, pad_token_id)
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=learning_rate, weight_decay=0.0)
    losses = []
    model.train()
    try:
        for batch in batches:
            loss = model(**batch).loss
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
    finally:
        if handle is not None:
            handle.remove()
        model.eval()
    return losses
