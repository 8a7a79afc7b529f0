# loses: test-mambainf-conv keeps 2, test-mambainf-mixer, test-mambainf-model, test-mambainf-module
# The cache is rolled in place, and the caller's state with it.

# %% mambainf-conv
def conv_chunk(x: Tensor, state: Tensor, weight: Tensor, bias: Tensor) -> tuple[Tensor, Tensor]:
    if state.shape != (x.shape[0], x.shape[1], weight.shape[1] - 1):
        raise ValueError(f"the state must be (B, D, K - 1), not {tuple(state.shape)}")
    length = x.shape[2]
    joined = torch.cat([state, x], dim=2)
    y = bias[:, None].expand(x.shape)
    for k in range(weight.shape[1]):
        y = y + weight[:, k, None] * joined[:, :, k : k + length]
    state.copy_(joined[:, :, length:])
    return y, state
