# loses: test-profiling-fast-train, test-profiling-all
# zero_grad is gone: each step goes along the sum of all gradients so far.

# %% profiling-fast-train
def fast_train(model: nn.Module, batches, lr: float) -> list[float]:
    model.encoder.requires_grad_(False)
    optimizer = torch.optim.SGD(model.head.parameters(), lr=lr)
    losses = []
    for x, labels in batches:
        with record_function("forward"):
            loss = nn.functional.cross_entropy(model(x), labels)
        with record_function("backward"):
            loss.backward()
        with record_function("optimizer"):
            optimizer.step()
        losses.append(loss.detach())
    return torch.stack(losses).tolist() if losses else []
