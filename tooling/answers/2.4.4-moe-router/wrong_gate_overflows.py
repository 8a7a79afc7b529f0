# loses: test-router-gate keeps 1
# exp() of the logits as they are: infinite from 710 on.

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
    weights, indices = (wide.exp() / wide.exp().sum(dim=1, keepdim=True)).topk(k)
    return (weights / weights.sum(dim=1, keepdim=True) if renormalise else weights), indices
