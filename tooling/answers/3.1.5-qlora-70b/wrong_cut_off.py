# loses: test-qlora-scales, test-integration-qlora
# A cast in the place of a rounding.

# %% qlora-scales
def quantize_scales(absmax: Tensor, group: int = 256) -> Scales:
    if group < 1:
        raise ValueError(f"group must be at least 1, not {group}")
    mean = absmax.mean()
    groups = nn.functional.pad(absmax - mean, (0, -len(absmax) % group)).view(-1, group)
    factors = groups.abs().amax(dim=1) / 127
    whole = (groups / torch.where(factors > 0, factors, torch.ones_like(factors))[:, None])
    return Scales(whole.to(torch.int8).view(-1)[: len(absmax)], factors, mean, group)


def restore_scales(stored: Scales) -> Tensor:
    factors = stored.factors.repeat_interleave(stored.group)[: len(stored.codes)]
    return stored.codes * factors + stored.mean
