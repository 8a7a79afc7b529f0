# loses: test-neftune-bounds, test-neftune-noise keeps 5
# A text without tokens gets an infinite bound, and 0 * inf is NaN.

# %% neftune-bounds
def noise_bounds(attention_mask: Tensor, dim: int, alpha: float) -> Tensor:
    if alpha < 0:
        raise ValueError(f"alpha must be at least 0, not {alpha}")
    tokens = attention_mask.sum(dim=1)
    return alpha / torch.sqrt(tokens * dim)
