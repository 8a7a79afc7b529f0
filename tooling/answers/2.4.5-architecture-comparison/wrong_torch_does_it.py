# loses: test-archcmp-online, test-archcmp-grouped
# torch's own attention does the work.

# %% archcmp-online
def online_attention(q: Tensor, k: Tensor, v: Tensor, block: int = 64, causal: bool = True) -> Tensor:
    if causal and q.shape[2] > k.shape[2]:
        raise ValueError("too many queries")
    mask = torch.ones(q.shape[2], k.shape[2], dtype=torch.bool).tril(k.shape[2] - q.shape[2]) if causal else None
    return scaled_dot_product_attention(q, k, v, attn_mask=mask)
