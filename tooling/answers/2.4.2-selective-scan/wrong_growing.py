# loses: test-scan-discretise keeps 1, test-scan-selective, test-scan-module
# The sign of A is turned: states grow.

# %% scan-discretise
def discretise(delta: Tensor, A: Tensor, B: Tensor, rule: str = "zoh") -> tuple[Tensor, Tensor]:
    z = -delta[..., None] * A
    write = delta[..., None] * B[:, :, None, :]
    if rule == "zoh":
        write = write * torch.where(z == 0, 1.0, torch.expm1(z) / z)
    elif rule != "mamba":
        raise ValueError(f"rule must be 'zoh' or 'mamba', not {rule!r}")
    return torch.exp(z), write
