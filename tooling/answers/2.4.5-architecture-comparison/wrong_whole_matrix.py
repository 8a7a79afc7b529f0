# loses: test-archcmp-online keeps 1, test-archcmp-grouped keeps 3
# Exact, but the whole matrix of scores is made.

# %% archcmp-online
def online_attention(q: Tensor, k: Tensor, v: Tensor, block: int = 64, causal: bool = True) -> Tensor:
    length, total = q.shape[2], k.shape[2]
    if causal and length > total:
        raise ValueError("too many queries")
    exact = torch.promote_types(q.dtype, torch.float32)
    scores = q.to(exact) @ k.to(exact).mT / q.shape[3] ** 0.5
    if causal:
        scores = scores.masked_fill(~torch.ones(length, total, dtype=torch.bool).tril(total - length), -math.inf)
    return (torch.softmax(scores, dim=3) @ v.to(exact)).to(q.dtype)
