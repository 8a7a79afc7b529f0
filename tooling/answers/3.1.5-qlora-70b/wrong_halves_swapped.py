# loses: test-qlora-dequantize, test-integration-qlora
# The low half is read as the first value.

# %% qlora-dequantize
def dequantize(stored: Quantized, codebook: Tensor, dtype: torch.dtype = torch.float32) -> Tensor:
    numbers = torch.stack([stored.codes & 15, stored.codes >> 4], dim=1).long()
    values = codebook.float()[numbers].view(-1, stored.block) * stored.absmax[:, None]
    return values.view(-1)[: math.prod(stored.shape)].view(stored.shape).to(dtype)
