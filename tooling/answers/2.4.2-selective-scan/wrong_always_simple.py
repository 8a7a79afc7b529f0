# loses: test-scan-discretise keeps 1
# Mamba's b under both names; no rule is refused.

# %% scan-discretise
def discretise(delta: Tensor, A: Tensor, B: Tensor, rule: str = "zoh") -> tuple[Tensor, Tensor]:
    z = delta[..., None] * A
    write = delta[..., None] * B[:, :, None, :]
    return torch.exp(z), write
