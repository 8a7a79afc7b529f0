# loses: test-neftune-bounds, test-neftune-noise, test-neftune-attach, test-neftune-train keeps 2, test-neftune-module
# alpha / (L d).

# %% neftune-bounds
def noise_bounds(attention_mask: Tensor, dim: int, alpha: float) -> Tensor:
    if alpha < 0:
        raise ValueError(f"alpha must be at least 0, not {alpha}")
    tokens = attention_mask.sum(dim=1)
    bounds = alpha / (tokens.clamp(min=1) * dim)
    return torch.where(tokens > 0, bounds, 0.0)
