# loses: test-mambainf-conv keeps 2, test-mambainf-mixer keeps 3
# conv1d, which refuses the K - 1 columns of an empty chunk.

# %% mambainf-conv
def conv_chunk(x: Tensor, state: Tensor, weight: Tensor, bias: Tensor) -> tuple[Tensor, Tensor]:
    if state.shape != (x.shape[0], x.shape[1], weight.shape[1] - 1):
        raise ValueError(f"the state must be (B, D, K - 1), not {tuple(state.shape)}")
    length = x.shape[2]
    joined = torch.cat([state, x], dim=2)
    y = conv1d(joined, weight[:, None], bias, groups=x.shape[1])
    return y, joined[:, :, length:].clone()
