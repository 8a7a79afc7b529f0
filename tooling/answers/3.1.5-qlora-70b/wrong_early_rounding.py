# loses: test-qlora-dequantize
# The code book is rounded to the dtype before the product.

# %% qlora-dequantize
def dequantize(stored: Quantized, codebook: Tensor, dtype: torch.dtype = torch.float32) -> Tensor:
    numbers = torch.stack([stored.codes >> 4, stored.codes & 15], dim=1).long()
    values = codebook.to(dtype)[numbers].view(-1, stored.block) * stored.absmax[:, None]
    return values.view(-1)[: math.prod(stored.shape)].view(stored.shape).to(dtype)
