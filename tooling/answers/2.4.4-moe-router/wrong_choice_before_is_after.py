# loses: test-router-gate, test-router-module keeps 1
# The choice always comes first, also where the softmax should.

# %% router-gate
def top_k_gate(
    logits: Tensor, k: int, softmax: Literal["before", "after"] = "before", renormalise: bool = True
) -> tuple[Tensor, Tensor]:
    if not 1 <= k <= logits.shape[1]:
        raise ValueError(f"k must be from 1 to the number of experts, not {k}")
    if softmax not in ("before", "after"):
        raise ValueError(f'softmax is "before" or "after", not {softmax!r}')
    wide = logits if logits.dtype == torch.float64 else logits.float()
    values, indices = wide.topk(k)
    return values.softmax(dim=1), indices
