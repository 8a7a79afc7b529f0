# loses: test-lora-init, test-lora-module
# "Start at the pretrained model" is taken to mean that A is zero too. Then neither factor ever gets a gradient.
# %% lora-init
def lora_init(
    in_features: int, out_features: int, rank: int, generator: torch.Generator | None = None
) -> tuple[nn.Parameter, nn.Parameter]:
    if not 1 <= rank <= min(in_features, out_features):
        raise ValueError(f"bad rank {rank}")
    return nn.Parameter(torch.zeros(rank, in_features)), nn.Parameter(torch.zeros(out_features, rank))
