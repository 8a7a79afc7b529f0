# loses: test-dora-one-step
# The norm of the change, which grows with the number of outputs, for its root mean square.
# %% dora-one-step
def one_step(layer: nn.Module, x: Tensor, gradient: Tensor, learning_rate: float) -> float:
    trial = copy.deepcopy(layer)
    trained = [p for p in trial.parameters() if p.requires_grad]
    before = trial(x)
    steps = torch.autograd.grad((before * gradient).sum(), trained)
    with torch.no_grad():
        for parameter, change in zip(trained, steps, strict=True):
            parameter -= learning_rate * change
        return (trial(x) - before).norm().item()
