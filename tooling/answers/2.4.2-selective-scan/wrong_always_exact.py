# loses: test-scan-discretise keeps 3, test-scan-selective, test-scan-module
# The exact b under both names.

# %% scan-discretise
def discretise(delta: Tensor, A: Tensor, B: Tensor, rule: str = "zoh") -> tuple[Tensor, Tensor]:
    z = delta[..., None] * A
    write = delta[..., None] * B[:, :, None, :]
    if rule in ("zoh", "mamba"):
        write = write * torch.where(z == 0, 1.0, torch.expm1(z) / z)
    elif rule != "mamba":
        raise ValueError(f"rule must be 'zoh' or 'mamba', not {rule!r}")
    return torch.exp(z), write
