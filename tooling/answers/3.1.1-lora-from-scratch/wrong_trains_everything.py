# loses: test-lora-train, test-lora-module
# "Train" is taken to include switching every gradient on, which undoes the freezing.
# %% lora-train
def finetune(model: nn.Module, batches: Sequence[Tensor], learning_rate: float) -> list[float]:
    model.requires_grad_(True)
    optimizer = torch.optim.AdamW(model.parameters(), lr=learning_rate, weight_decay=0.0)
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
