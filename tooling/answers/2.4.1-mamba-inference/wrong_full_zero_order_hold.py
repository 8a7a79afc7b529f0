# loses: test-mambainf-step, test-mambainf-mixer keeps 3, test-mambainf-model keeps 1, test-mambainf-module keeps 2
# B is discretised exactly, (exp(delta A) - 1) / A, which is not what Mamba's weights were trained with.

# %% mambainf-step
def ssm_step(
    x: Tensor, delta: Tensor, A: Tensor, B: Tensor, C: Tensor, D: Tensor, state: Tensor
) -> tuple[Tensor, Tensor]:
    kind = x.dtype
    x, delta, A, B, C, D = (value.to(state.dtype) for value in (x, delta, A, B, C, D))
    state = torch.exp(delta[:, :, None] * A) * state + (torch.expm1(delta[:, :, None] * A) / A) * x[:, :, None] * B[:, None, :]
    y = (state * C[:, None, :]).sum(dim=2) + D * x
    return y.to(kind), state
