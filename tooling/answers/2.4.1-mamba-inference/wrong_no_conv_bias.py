# loses: test-mambainf-conv keeps 1, test-mambainf-mixer keeps 3, test-mambainf-model keeps 1, test-mambainf-module keeps 2
# The convolution's bias is forgotten.

# %% mambainf-conv
def conv_chunk(x: Tensor, state: Tensor, weight: Tensor, bias: Tensor) -> tuple[Tensor, Tensor]:
    if state.shape != (x.shape[0], x.shape[1], weight.shape[1] - 1):
        raise ValueError(f"the state must be (B, D, K - 1), not {tuple(state.shape)}")
    length = x.shape[2]
    joined = torch.cat([state, x], dim=2)
    y = torch.zeros_like(x)
    for k in range(weight.shape[1]):
        y = y + weight[:, k, None] * joined[:, :, k : k + length]
    return y, joined[:, :, length:].clone()
