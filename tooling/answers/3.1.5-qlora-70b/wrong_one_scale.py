# loses: test-qlora-quantize, test-integration-qlora
# One scale for all blocks.

# %% qlora-quantize
def quantize(weight: Tensor, codebook: Tensor, block: int = 64) -> Quantized:
    if block < 2 or block % 2:
        raise ValueError(f"block must be even and at least 2, not {block}")
    flat = weight.detach().reshape(-1).float()
    if not flat.isfinite().all():
        raise ValueError("the weight has values that are not finite")
    blocks = nn.functional.pad(flat, (0, -len(flat) % block)).view(-1, block)
    absmax = blocks.abs().amax().expand(len(blocks)).clone()
    scaled = blocks / torch.where(absmax > 0, absmax, torch.ones_like(absmax))[:, None]
    midpoints = ((codebook[1:] + codebook[:-1]) / 2).float()
    numbers = torch.bucketize(scaled, midpoints).to(torch.uint8).view(-1, 2)
    return Quantized(numbers[:, 0] << 4 | numbers[:, 1], absmax, tuple(weight.shape), block)
