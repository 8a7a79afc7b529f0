# loses: test-mambainf-conv keeps 2
# The state is a slice of the joined tensor and keeps the whole chunk alive (Common mistake 1).

# %% mambainf-conv
def conv_chunk(x: Tensor, state: Tensor, weight: Tensor, bias: Tensor) -> tuple[Tensor, Tensor]:
    if state.shape != (x.shape[0], x.shape[1], weight.shape[1] - 1):
        raise ValueError(f"the state must be (B, D, K - 1), not {tuple(state.shape)}")
    length = x.shape[2]
    joined = torch.cat([state, x], dim=2)
    y = bias[:, None].expand(x.shape)
    for k in range(weight.shape[1]):
        y = y + weight[:, k, None] * joined[:, :, k : k + length]
    return y, joined[:, :, length:]
