# loses: test-neftune-noise, test-neftune-attach, test-neftune-train keeps 2, test-neftune-module
# One number for a token, the same in all its dimensions.

# %% neftune-noise
def neftune_noise(embeddings: Tensor, attention_mask: Tensor, alpha: float) -> Tensor:
    noise = torch.empty((*embeddings.shape[:2], 1), device=embeddings.device).uniform_(-1, 1)
    bounds = noise_bounds(attention_mask, embeddings.shape[-1], alpha)
    return (noise * bounds[:, None, None] * attention_mask[:, :, None]).expand(embeddings.shape).to(embeddings.dtype)
