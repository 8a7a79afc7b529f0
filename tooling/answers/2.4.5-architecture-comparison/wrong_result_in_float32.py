# loses: test-archcmp-online keeps 4
# The result stays in the dtype of the arithmetic.

# %% archcmp-online
def online_attention(q: Tensor, k: Tensor, v: Tensor, block: int = 64, causal: bool = True) -> Tensor:
    (length, width), total = q.shape[2:], k.shape[2]
    if causal and length > total:
        raise ValueError(f"{length} queries at the end of {total} keys: the first would see nothing")
    exact = torch.promote_types(q.dtype, torch.float32)
    scaled = q.to(exact) * width**-0.5
    peak = torch.full((*q.shape[:3], 1), -math.inf, dtype=exact)
    norm = torch.zeros((*q.shape[:3], 1), dtype=exact)
    out = torch.zeros((*q.shape[:3], v.shape[3]), dtype=exact)
    position = torch.arange(total - length, total)[:, None]
    for start in range(0, total, block):
        keys, values = (x[:, :, start : start + block].to(exact) for x in (k, v))
        scores = scaled @ keys.mT
        if causal:
            future = torch.arange(start, start + keys.shape[2]) > position
            scores = scores.masked_fill(future, -math.inf)
        higher = torch.maximum(peak, scores.amax(dim=3, keepdim=True))
        weights, shrink = torch.exp(scores - higher), torch.exp(peak - higher)
        norm = norm * shrink + weights.sum(dim=3, keepdim=True)
        out = out * shrink + weights @ values
        peak = higher
    return out / norm
