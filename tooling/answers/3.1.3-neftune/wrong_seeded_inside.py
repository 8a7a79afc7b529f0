# loses: test-neftune-noise keeps 3, test-neftune-attach, test-neftune-train keeps 2, test-neftune-module
# The seed is set inside, so that every call gives the same noise.

# %% neftune-noise
def neftune_noise(embeddings: Tensor, attention_mask: Tensor, alpha: float) -> Tensor:
    torch.manual_seed(0)
    noise = torch.empty(embeddings.shape, device=embeddings.device).uniform_(-1, 1)
    bounds = noise_bounds(attention_mask, embeddings.shape[-1], alpha)
    return (noise * bounds[:, None, None] * attention_mask[:, :, None]).to(embeddings.dtype)
