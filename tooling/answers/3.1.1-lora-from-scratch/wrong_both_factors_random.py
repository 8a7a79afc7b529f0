# loses: test-lora-init, test-lora-module
# Both factors are initialised like any other weight: the model is spoilt before the first step.
# %% lora-init
def lora_init(
    in_features: int, out_features: int, rank: int, generator: torch.Generator | None = None
) -> tuple[nn.Parameter, nn.Parameter]:
    if not 1 <= rank <= min(in_features, out_features):
        raise ValueError(f"bad rank {rank}")
    bound = 1 / math.sqrt(in_features)
    lora_A = torch.empty(rank, in_features).uniform_(-bound, bound, generator=generator)
    lora_B = torch.empty(out_features, rank).uniform_(-bound, bound, generator=generator)
    return nn.Parameter(lora_A), nn.Parameter(lora_B)
