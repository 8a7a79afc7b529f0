# loses: test-scan-discretise keeps 3
# An unknown rule is taken for the simple one.

# %% scan-discretise
def discretise(delta: Tensor, A: Tensor, B: Tensor, rule: str = "zoh") -> tuple[Tensor, Tensor]:
    z = delta[..., None] * A
    write = delta[..., None] * B[:, :, None, :]
    if rule == "zoh":
        write = write * torch.where(z == 0, 1.0, torch.expm1(z) / z)
    return torch.exp(z), write
