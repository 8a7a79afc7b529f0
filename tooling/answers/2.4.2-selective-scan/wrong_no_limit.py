# loses: test-scan-discretise keeps 3
# 0 / 0 where A is 0. Common mistake 3.

# %% scan-discretise
def discretise(delta: Tensor, A: Tensor, B: Tensor, rule: str = "zoh") -> tuple[Tensor, Tensor]:
    z = delta[..., None] * A
    write = delta[..., None] * B[:, :, None, :]
    if rule == "zoh":
        write = write * torch.expm1(z) / z
    elif rule != "mamba":
        raise ValueError(f"rule must be 'zoh' or 'mamba', not {rule!r}")
    return torch.exp(z), write
