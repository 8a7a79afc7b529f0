# loses: test-qlora-recompute, test-qlora-layer keeps 3, test-integration-qlora
# The transpose in the backward pass.

# %% qlora-recompute
class OnDemandLinear(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x: Tensor, make_weight: Callable[[], Tensor]) -> Tensor:
        ctx.make_weight = make_weight
        return linear(x, make_weight())

    @staticmethod
    def backward(ctx, g: Tensor) -> tuple[Tensor | None, None]:
        return g @ ctx.make_weight().T, None
