# loses: test-profiling-fast-train, test-profiling-all
# The loss is read at each batch.

# %% profiling-fast-train
def fast_train(model: nn.Module, batches, lr: float) -> list[float]:
    model.encoder.requires_grad_(False)
    optimizer = torch.optim.SGD(model.head.parameters(), lr=lr)
    losses = []
    for x, labels in batches:
        losses.append(learn(model, optimizer, x, labels).item())
    return losses
