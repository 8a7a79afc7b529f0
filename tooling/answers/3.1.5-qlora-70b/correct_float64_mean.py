# The scales are centred by a float64 mean, which is rounded only where it is stored.

# %% qlora-scales
def quantize_scales(absmax: Tensor, group: int = 256) -> Scales:
    if group < 1:
        raise ValueError(f"a group of {group}")
    mean = absmax.double().mean()
    codes, factors = [], []
    for part in (absmax.double() - mean).split(group):
        factor = part.abs().max() / 127
        codes.append((part / factor if factor > 0 else part).round().to(torch.int8))
        factors.append(factor)
    return Scales(torch.cat(codes), torch.stack(factors).float(), mean.float(), group)


def restore_scales(stored: Scales) -> Tensor:
    factors = stored.factors.repeat_interleave(stored.group)[: len(stored.codes)]
    return stored.codes * factors + stored.mean
