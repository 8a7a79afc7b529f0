# loses: test-qlora-recompute, test-qlora-layer keeps 3
# The weight is kept for the backward pass.

# %% qlora-recompute
class OnDemandLinear(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x: Tensor, make_weight: Callable[[], Tensor]) -> Tensor:
        weight = make_weight()
        ctx.save_for_backward(weight)
        return linear(x, weight)

    @staticmethod
    def backward(ctx, g: Tensor) -> tuple[Tensor | None, None]:
        return g @ ctx.saved_tensors[0], None
