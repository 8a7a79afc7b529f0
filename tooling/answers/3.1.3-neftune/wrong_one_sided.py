# loses: test-neftune-noise keeps 2, test-neftune-attach, test-neftune-train keeps 2, test-neftune-module
# Uniform from 0 on: the mean of every embedding is shifted.

# %% neftune-noise
def neftune_noise(embeddings: Tensor, attention_mask: Tensor, alpha: float) -> Tensor:
    noise = torch.empty(embeddings.shape, device=embeddings.device).uniform_(0, 1)
    bounds = noise_bounds(attention_mask, embeddings.shape[-1], alpha)
    return (noise * bounds[:, None, None] * attention_mask[:, :, None]).to(embeddings.dtype)
