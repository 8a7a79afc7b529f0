# loses: test-scan-select, test-scan-module
# exp in place of softplus.

# %% scan-select
def select(u: Tensor, x_proj: Tensor, dt_weight: Tensor, dt_bias: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    rank = dt_weight.shape[1]
    states = (x_proj.shape[0] - rank) // 2
    low, B, C = torch.split(u @ x_proj.T, [rank, states, states], dim=-1)
    return torch.exp(low @ dt_weight.T + dt_bias), B, C
