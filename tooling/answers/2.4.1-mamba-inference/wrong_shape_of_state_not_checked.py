# loses: test-mambainf-conv keeps 2
# A state of another shape is taken as it comes.

# %% mambainf-conv
def conv_chunk(x: Tensor, state: Tensor, weight: Tensor, bias: Tensor) -> tuple[Tensor, Tensor]:
    length = x.shape[2]
    joined = torch.cat([state, x], dim=2)
    y = bias[:, None].expand(x.shape)
    for k in range(weight.shape[1]):
        y = y + weight[:, k, None] * joined[:, :, k : k + length]
    return y, joined[:, :, length:].clone()
