# loses: test-scan-select, test-scan-module
# The step is cut from the last rows.

# %% scan-select
def select(u: Tensor, x_proj: Tensor, dt_weight: Tensor, dt_bias: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    rank = dt_weight.shape[1]
    states = (x_proj.shape[0] - rank) // 2
    B, C, low = torch.split(u @ x_proj.T, [states, states, rank], dim=-1)
    return softplus(low @ dt_weight.T + dt_bias), B, C
