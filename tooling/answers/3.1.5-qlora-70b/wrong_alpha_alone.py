# loses: test-qlora-layer keeps 0
# The adapter is scaled by alpha, not by alpha / r.

# %% qlora-layer
class QLoRALinear(nn.Module):

    def __init__(self, base: nn.Linear, r: int, alpha: float, codebook: Tensor, block: int = 64, group: int = 256) -> None:
        super().__init__()
        full = quantize(base.weight, codebook, block)
        self.scales = quantize_scales(full.absmax, group)
        self.stored = Quantized(full.codes, full.absmax[:0].clone(), full.shape, block)
        self.bias = None if base.bias is None else base.bias.detach().float().clone()
        self.codebook, self.scaling = codebook, alpha
        limit = base.in_features**-0.5
        self.A = nn.Parameter(torch.empty(r, base.in_features).uniform_(-limit, limit))
        self.B = nn.Parameter(torch.zeros(base.out_features, r))

    def weight(self, dtype: torch.dtype = torch.float32) -> Tensor:
        stored = self.stored
        full = Quantized(stored.codes, restore_scales(self.scales), stored.shape, stored.block)
        return dequantize(full, self.codebook, dtype)

    def forward(self, x: Tensor) -> Tensor:
        y = OnDemandLinear.apply(x, self.weight) + self.scaling * linear(linear(x, self.A), self.B)
        return y if self.bias is None else y + self.bias
