# loses: test-lora-train
# AdamW's default decay of 0.01 stays on. No plot shows it.
# %% lora-train
def finetune(model: nn.Module, batches: Sequence[Tensor], learning_rate: float) -> list[float]:
    trainable = [p for p in model.parameters() if p.requires_grad]
    if not trainable:
        raise ValueError("nothing to train")
    optimizer = torch.optim.AdamW(trainable, lr=learning_rate)
    losses = []
    model.train()
    for ids in batches:
        loss = model(input_ids=ids, labels=ids).loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    model.eval()
    return losses
