# The nearest code by comparing with all sixteen; the backward pass through a small graph of its own.

# %% qlora-quantize
def quantize(weight: Tensor, codebook: Tensor, block: int = 64) -> Quantized:
    if block < 2 or block % 2:
        raise ValueError(f"block must be even and at least 2, not {block}")
    flat = weight.detach().reshape(-1).float()
    if not flat.isfinite().all():
        raise ValueError("the weight has values that are not finite")
    blocks = nn.functional.pad(flat, (0, -len(flat) % block)).view(-1, block)
    absmax = blocks.abs().amax(dim=1)
    scaled = blocks / torch.where(absmax > 0, absmax, torch.ones_like(absmax))[:, None]
    numbers = (scaled[..., None].double() - codebook).abs().argmin(dim=-1).to(torch.uint8).view(-1, 2)
    return Quantized(numbers[:, 0] << 4 | numbers[:, 1], absmax, tuple(weight.shape), block)


# %% qlora-recompute
class OnDemandLinear(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, make_weight):
        ctx.make_weight, ctx.shape = make_weight, x.shape
        return linear(x, make_weight())

    @staticmethod
    def backward(ctx, g):
        weight = ctx.make_weight()
        with torch.enable_grad():
            x = torch.zeros(ctx.shape, dtype=g.dtype, requires_grad=True)
            y = linear(x, weight)
        return torch.autograd.grad(y, x, g)[0], None
