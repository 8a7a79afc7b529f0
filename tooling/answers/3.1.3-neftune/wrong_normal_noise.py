# loses: test-neftune-noise, test-neftune-attach, test-neftune-train keeps 2, test-neftune-module
# The five lines that go around: normal noise, and no d in the scale.

# %% neftune-noise
def neftune_noise(embeddings: Tensor, attention_mask: Tensor, alpha: float) -> Tensor:
    noise = torch.empty(embeddings.shape, device=embeddings.device).normal_()
    bounds = noise_bounds(attention_mask, embeddings.shape[-1], alpha)
    return (noise * (bounds * embeddings.shape[-1] ** 0.5)[:, None, None] * attention_mask[:, :, None]).to(embeddings.dtype)
