# loses: test-neftune-noise, test-neftune-attach, test-neftune-train keeps 2, test-neftune-module
# Normal noise of the right variance: it has no bound.

# %% neftune-noise
def neftune_noise(embeddings: Tensor, attention_mask: Tensor, alpha: float) -> Tensor:
    noise = torch.empty(embeddings.shape, device=embeddings.device).normal_().div(math.sqrt(3))
    bounds = noise_bounds(attention_mask, embeddings.shape[-1], alpha)
    return (noise * bounds[:, None, None] * attention_mask[:, :, None]).to(embeddings.dtype)
