# loses: test-neftune-noise keeps 1, test-neftune-attach
# Padding gets noise as well.

# %% neftune-noise
def neftune_noise(embeddings: Tensor, attention_mask: Tensor, alpha: float) -> Tensor:
    noise = torch.empty(embeddings.shape, device=embeddings.device).uniform_(-1, 1)
    bounds = noise_bounds(attention_mask, embeddings.shape[-1], alpha)
    return (noise * bounds[:, None, None]).to(embeddings.dtype)
