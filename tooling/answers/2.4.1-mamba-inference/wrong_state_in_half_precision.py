# loses: test-mambainf-step keeps 3
# The state takes the inputs' dtype (Common mistake 4).

# %% mambainf-step
def ssm_step(
    x: Tensor, delta: Tensor, A: Tensor, B: Tensor, C: Tensor, D: Tensor, state: Tensor
) -> tuple[Tensor, Tensor]:
    kind = x.dtype
    state = state.to(kind)
    x, delta, A, B, C, D = (value.to(state.dtype) for value in (x, delta, A, B, C, D))
    state = torch.exp(delta[:, :, None] * A) * state + (delta * x)[:, :, None] * B[:, None, :]
    y = (state * C[:, None, :]).sum(dim=2) + D * x
    return y.to(kind), state
