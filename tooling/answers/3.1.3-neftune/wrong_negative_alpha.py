# loses: test-neftune-bounds
# A negative alpha passes.

# %% neftune-bounds
def noise_bounds(attention_mask: Tensor, dim: int, alpha: float) -> Tensor:
    tokens = attention_mask.sum(dim=1)
    bounds = alpha / torch.sqrt(tokens.clamp(min=1) * dim)
    return torch.where(tokens > 0, bounds, 0.0)
