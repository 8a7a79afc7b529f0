# loses: test-lora-init
# The generator is accepted and never used; every run gives other numbers.
# %% lora-init
def lora_init(
    in_features: int, out_features: int, rank: int, generator: torch.Generator | None = None
) -> tuple[nn.Parameter, nn.Parameter]:
    if not 1 <= rank <= min(in_features, out_features):
        raise ValueError(f"bad rank {rank}")
    bound = 1 / math.sqrt(in_features)
    return nn.Parameter(torch.empty(rank, in_features).uniform_(-bound, bound)), nn.Parameter(torch.zeros(out_features, rank))
