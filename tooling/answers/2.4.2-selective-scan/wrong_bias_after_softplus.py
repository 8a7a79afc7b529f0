# loses: test-scan-select, test-scan-module
# The bias is added to the finished step. Common mistake 7.

# %% scan-select
def select(u: Tensor, x_proj: Tensor, dt_weight: Tensor, dt_bias: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    rank = dt_weight.shape[1]
    states = (x_proj.shape[0] - rank) // 2
    low, B, C = torch.split(u @ x_proj.T, [rank, states, states], dim=-1)
    return softplus(low @ dt_weight.T) + dt_bias, B, C
