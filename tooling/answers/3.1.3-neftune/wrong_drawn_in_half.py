# loses: test-neftune-bounds
# Drawn in the dtype of the embeddings: bfloat16 knows 256 different uniform numbers.

# %% neftune-noise
def neftune_noise(embeddings: Tensor, attention_mask: Tensor, alpha: float) -> Tensor:
    noise = torch.empty_like(embeddings).uniform_(-1, 1)
    bounds = noise_bounds(attention_mask, embeddings.shape[-1], alpha)
    return (noise.detach() * bounds[:, None, None] * attention_mask[:, :, None]).to(embeddings.dtype)
