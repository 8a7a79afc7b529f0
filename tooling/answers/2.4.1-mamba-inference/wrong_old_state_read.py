# loses: test-mambainf-step, test-mambainf-mixer keeps 3, test-mambainf-model keeps 1, test-mambainf-module keeps 2
# The output is read from the state before the update (Common mistake 3).

# %% mambainf-step
def ssm_step(
    x: Tensor, delta: Tensor, A: Tensor, B: Tensor, C: Tensor, D: Tensor, state: Tensor
) -> tuple[Tensor, Tensor]:
    kind = x.dtype
    x, delta, A, B, C, D = (value.to(state.dtype) for value in (x, delta, A, B, C, D))
    old = state
    state = torch.exp(delta[:, :, None] * A) * state + (delta * x)[:, :, None] * B[:, None, :]
    y = (old * C[:, None, :]).sum(dim=2) + D * x
    return y.to(kind), state
