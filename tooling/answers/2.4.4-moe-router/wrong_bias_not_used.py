# loses: test-router-bias keeps 2, test-router-module
# The choice does not look at the bias.

# %% router-bias
def biased_gate(logits: Tensor, bias: Tensor, k: int, scale: float = 1.0) -> tuple[Tensor, Tensor]:
    scores = logits.sigmoid()
    indices = scores.topk(k).indices
    picked = scores.gather(1, indices)
    return scale * picked / picked.sum(dim=1, keepdim=True), indices


def update_bias(bias: Tensor, counts: Tensor, rate: float) -> Tensor:
    return bias + rate * (counts.sum() - len(counts) * counts).sign()
