# loses: test-lora-train
# zero_grad is missing: every step also takes all earlier gradients. With small steps the loss falls all the same.
# %% lora-train
def finetune(model: nn.Module, batches: Sequence[Tensor], learning_rate: float) -> list[float]:
    trainable = [p for p in model.parameters() if p.requires_grad]
    if not trainable:
        raise ValueError("nothing to train")
    optimizer = torch.optim.AdamW(trainable, lr=learning_rate, weight_decay=0.0)
    losses = []
    model.train()
    for ids in batches:
        loss = model(input_ids=ids, labels=ids).loss
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    model.eval()
    return losses
