# loses: test-scan-select, test-scan-module
# B and C change places.

# %% scan-select
def select(u: Tensor, x_proj: Tensor, dt_weight: Tensor, dt_bias: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    rank = dt_weight.shape[1]
    states = (x_proj.shape[0] - rank) // 2
    low, C, B = torch.split(u @ x_proj.T, [rank, states, states], dim=-1)
    return softplus(low @ dt_weight.T + dt_bias), B, C
