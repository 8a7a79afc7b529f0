# loses: test-profiling-prepare, test-profiling-all
# Float32 comes before the subtraction: readings with a large mean lose their digits.

# %% profiling-prepare
def fast_prepare(raw: torch.Tensor, mean: torch.Tensor, std: torch.Tensor) -> torch.Tensor:
    return ((raw.float() - mean.float()) / std.float()).clamp(-3.0, 3.0).float().contiguous()
