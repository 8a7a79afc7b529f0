# loses: test-neftune-noise keeps 5
# Drawn in the dtype of the embeddings: a seed means other noise in each dtype.

# %% neftune-noise
def neftune_noise(embeddings: Tensor, attention_mask: Tensor, alpha: float) -> Tensor:
    noise = torch.empty_like(embeddings).uniform_(-1, 1)
    bounds = noise_bounds(attention_mask, embeddings.shape[-1], alpha)
    return (noise.detach() * bounds[:, None, None] * attention_mask[:, :, None]).to(embeddings.dtype)
