# loses: test-dora-one-step
# The step goes up the gradient. With one layer the distance is the same.

# %% dora-one-step
def one_step(layer: nn.Module, x: Tensor, gradient: Tensor, learning_rate: float) -> float:
    trial = copy.deepcopy(layer)
    trained = [p for p in trial.parameters() if p.requires_grad]
    before = trial(x)
    steps = torch.autograd.grad((before * gradient).sum(), trained)
    with torch.no_grad():
        for parameter, step in zip(trained, steps, strict=True):
            parameter += learning_rate * step
        return (trial(x) - before).square().mean().sqrt().item()
