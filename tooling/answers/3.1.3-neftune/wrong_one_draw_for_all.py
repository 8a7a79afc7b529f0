# loses: test-neftune-noise keeps 3, test-neftune-train keeps 2, test-neftune-module
# One draw for all texts of a batch: the same smudge on every page.

# %% neftune-noise
def neftune_noise(embeddings: Tensor, attention_mask: Tensor, alpha: float) -> Tensor:
    noise = torch.empty(embeddings.shape[1:], device=embeddings.device).uniform_(-1, 1)
    bounds = noise_bounds(attention_mask, embeddings.shape[-1], alpha)
    return (noise * bounds[:, None, None] * attention_mask[:, :, None]).to(embeddings.dtype)
