# loses: test-router-gate keeps 3
# The softmax is taken in bfloat16 and only its result widened.

# %% router-gate
def top_k_gate(
    logits: Tensor, k: int, softmax: Literal["before", "after"] = "before", renormalise: bool = True
) -> tuple[Tensor, Tensor]:
    if not 1 <= k <= logits.shape[1]:
        raise ValueError(f"k must be from 1 to the number of experts, not {k}")
    if softmax not in ("before", "after"):
        raise ValueError(f'softmax is "before" or "after", not {softmax!r}')
    wide = logits
    if softmax == "after":
        values, indices = wide.topk(k)
        values = values if logits.dtype == torch.float64 else values.float()
        return values.softmax(dim=1).to(logits.dtype).to(values.dtype), indices
    weights, indices = wide.softmax(dim=1).topk(k)
    weights = weights if logits.dtype == torch.float64 else weights.float()
    return (weights / weights.sum(dim=1, keepdim=True) if renormalise else weights), indices
