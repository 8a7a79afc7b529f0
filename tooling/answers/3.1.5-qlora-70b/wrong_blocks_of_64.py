# loses: test-qlora-dequantize
# Whatever the block was, 64 values are read.

# %% qlora-dequantize
def dequantize(stored: Quantized, codebook: Tensor, dtype: torch.dtype = torch.float32) -> Tensor:
    numbers = torch.stack([stored.codes >> 4, stored.codes & 15], dim=1).long()
    values = codebook.float()[numbers].view(-1) .mul(stored.absmax.repeat_interleave(64)[: numbers.numel()])
    return values.view(-1)[: math.prod(stored.shape)].view(stored.shape).to(dtype)
