# loses: test-router-gate
# Places are sorted by expert, so column 0 is no first choice any more.

# %% router-gate
def top_k_gate(
    logits: Tensor, k: int, softmax: Literal["before", "after"] = "before", renormalise: bool = True
) -> tuple[Tensor, Tensor]:
    if not 1 <= k <= logits.shape[1]:
        raise ValueError(f"k must be from 1 to the number of experts, not {k}")
    if softmax not in ("before", "after"):
        raise ValueError(f'softmax is "before" or "after", not {softmax!r}')
    wide = logits if logits.dtype == torch.float64 else logits.float()
    if softmax == "after":
        values, indices = wide.topk(k)
        return values.softmax(dim=1), indices
    weights, indices = wide.softmax(dim=1).topk(k)
    indices, order = indices.sort(dim=1)
    weights = weights.gather(1, order)
    return (weights / weights.sum(dim=1, keepdim=True) if renormalise else weights), indices
