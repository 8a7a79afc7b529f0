# loses: test-router-bias keeps 2
# An expert at the average is pushed down.

# %% router-bias
def biased_gate(logits: Tensor, bias: Tensor, k: int, scale: float = 1.0) -> tuple[Tensor, Tensor]:
    scores = logits.sigmoid()
    indices = (scores + bias).topk(k).indices
    picked = scores.gather(1, indices)
    return scale * picked / picked.sum(dim=1, keepdim=True), indices


def update_bias(bias: Tensor, counts: Tensor, rate: float) -> Tensor:
    return bias + rate * torch.where(counts.sum() > len(counts) * counts, 1, -1)
