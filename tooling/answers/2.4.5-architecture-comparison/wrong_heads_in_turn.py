# loses: test-archcmp-grouped
# Heads are dealt out in turn: 0, 1, 0, 1 for 0, 0, 1, 1 (Common mistake 2).

# %% archcmp-grouped
def grouped_attention(q: Tensor, k: Tensor, v: Tensor, block: int = 64, causal: bool = True) -> Tensor:
    if q.shape[1] % k.shape[1]:
        raise ValueError("heads do not fit")
    shared = k.shape[1]
    parts = [online_attention(q[:, n : n + shared], k, v, block, causal) for n in range(0, q.shape[1], shared)]
    return torch.cat(parts, dim=1)
