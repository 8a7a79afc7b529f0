# loses: test-neftune-bounds, test-neftune-noise keeps 1, test-neftune-attach, test-neftune-train keeps 2
# The batch's length is taken for that of each text.

# %% neftune-bounds
def noise_bounds(attention_mask: Tensor, dim: int, alpha: float) -> Tensor:
    if alpha < 0:
        raise ValueError(f"alpha must be at least 0, not {alpha}")
    tokens = torch.full_like(attention_mask[:, 0].long(), attention_mask.shape[1]) if attention_mask.numel() else attention_mask.sum(dim=1)
    bounds = alpha / torch.sqrt(tokens.clamp(min=1) * dim)
    return torch.where(tokens > 0, bounds, 0.0)
