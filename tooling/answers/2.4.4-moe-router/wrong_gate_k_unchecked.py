# loses: test-router-gate keeps 1
# k = 0 is let through, and a token without experts is no error.

# %% router-gate
def top_k_gate(
    logits: Tensor, k: int, softmax: Literal["before", "after"] = "before", renormalise: bool = True
) -> tuple[Tensor, Tensor]:
    if k > logits.shape[1]:
        raise ValueError(f"k must be from 1 to the number of experts, not {k}")
    if softmax not in ("before", "after"):
        raise ValueError(f'softmax is "before" or "after", not {softmax!r}')
    wide = logits if logits.dtype == torch.float64 else logits.float()
    if softmax == "after":
        values, indices = wide.topk(k)
        return values.softmax(dim=1), indices
    weights, indices = wide.softmax(dim=1).topk(k)
    return (weights / weights.sum(dim=1, keepdim=True) if renormalise else weights), indices
