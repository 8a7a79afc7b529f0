# loses: test-dora-one-step
# The step is taken on the layer itself: measuring it trains it.
# %% dora-one-step
def one_step(layer: nn.Module, x: Tensor, gradient: Tensor, learning_rate: float) -> float:
    trained = [p for p in layer.parameters() if p.requires_grad]
    before = layer(x)
    steps = torch.autograd.grad((before * gradient).sum(), trained)
    with torch.no_grad():
        for parameter, change in zip(trained, steps, strict=True):
            parameter -= learning_rate * change
        return (layer(x) - before).square().mean().sqrt().item()
