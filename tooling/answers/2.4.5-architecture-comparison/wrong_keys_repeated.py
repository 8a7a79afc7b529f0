# loses: test-archcmp-grouped keeps 3
# Keys and values are written out again for every query head.

# %% archcmp-grouped
def grouped_attention(q: Tensor, k: Tensor, v: Tensor, block: int = 64, causal: bool = True) -> Tensor:
    if q.shape[1] % k.shape[1]:
        raise ValueError("heads do not fit")
    group = q.shape[1] // k.shape[1]
    return online_attention(q, k.repeat_interleave(group, 1), v.repeat_interleave(group, 1), block, causal)
