# loses: test-profiling-prepare, test-profiling-all
# A loop over the samples, only shorter to read.

# %% profiling-prepare
def fast_prepare(raw: torch.Tensor, mean: torch.Tensor, std: torch.Tensor) -> torch.Tensor:
    if not len(raw):
        return raw.float()
    return torch.stack([((sample - mean) / std).clamp(-3.0, 3.0) for sample in raw]).float()
