# loses: test-archcmp-grouped keeps 1
# A rest of heads is not refused.

# %% archcmp-grouped
def grouped_attention(q: Tensor, k: Tensor, v: Tensor, block: int = 64, causal: bool = True) -> Tensor:
    heads, shared = q.shape[1], k.shape[1]
    if heads < shared:
        raise ValueError(f"{heads} query heads cannot share {shared} key-value heads evenly")
    group = heads // shared
    out = q.new_empty((*q.shape[:3], v.shape[3]))
    for member in range(group):
        out[:, member::group] = online_attention(q[:, member::group], k, v, block, causal)
    return out
