# loses: test-profiling-prepare, test-profiling-all
# The result keeps the strides of a transposed input: the next operator pays for the copy.

# %% profiling-prepare
def fast_prepare(raw: torch.Tensor, mean: torch.Tensor, std: torch.Tensor) -> torch.Tensor:
    return ((raw - mean) / std).clamp(-3.0, 3.0).float()
