# loses: test-lora-init
# randn / sqrt(d_in) looks like the bound in the text, and is another distribution with the wrong spread.
# %% lora-init
def lora_init(
    in_features: int, out_features: int, rank: int, generator: torch.Generator | None = None
) -> tuple[nn.Parameter, nn.Parameter]:
    if not 1 <= rank <= min(in_features, out_features):
        raise ValueError(f"bad rank {rank}")
    lora_A = torch.randn(rank, in_features, generator=generator) / math.sqrt(in_features)
    return nn.Parameter(lora_A), nn.Parameter(torch.zeros(out_features, rank))
