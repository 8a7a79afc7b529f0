# By loops over plain numbers where the reference uses arrays, and by torch.func's tools.

# %% qlora-codebook
def normal_codebook(bits: int = 4, outermost: float = 0.9677083) -> Tensor:
    if bits not in range(2, 9) or not 0.5 < outermost < 1.0:
        raise ValueError("no such code book")
    n = 1 << (bits - 1)
    quantile = NormalDist().inv_cdf
    top = quantile(outermost)
    values = [quantile(outermost - k * (outermost - 0.5) / n) / top for k in range(n)]
    values += [-quantile(outermost - k * (outermost - 0.5) / (n - 1)) / top for k in range(n - 1)]
    return torch.tensor([*values, 0.0], dtype=torch.float64).sort()[0]


# %% qlora-quantize
def quantize(weight: Tensor, codebook: Tensor, block: int = 64) -> Quantized:
    if block <= 0 or block % 2 == 1:
        raise ValueError("block")
    values = weight.detach().to(torch.float32).flatten()
    if not torch.isfinite(values).all():
        raise ValueError("not finite")
    count = math.ceil(values.numel() / block)
    padded = torch.zeros(count * block)
    padded[: values.numel()] = values
    rows = padded.reshape(count, block)
    largest = rows.abs().max(dim=1).values
    scaled = (rows.double() / largest.double().clamp(min=1e-300)[:, None]).flatten()
    best, codes = torch.full_like(scaled, math.inf), torch.zeros(len(scaled), dtype=torch.uint8)
    for number, value in enumerate(codebook.tolist()):
        distance = (scaled - value).abs()
        nearer = distance < best
        best, codes = torch.where(nearer, distance, best), torch.where(nearer, number, codes)
    codes = codes.to(torch.uint8)
    return Quantized(codes[::2] * 16 + codes[1::2], largest, tuple(weight.shape), block)


# %% qlora-dequantize
def dequantize(stored: Quantized, codebook: Tensor, dtype: torch.dtype = torch.float32) -> Tensor:
    codes = torch.empty(2 * len(stored.codes), dtype=torch.int64)
    codes[0::2] = torch.div(stored.codes, 16, rounding_mode="floor")
    codes[1::2] = stored.codes % 16
    flat = codebook.to(torch.float32).index_select(0, codes) * stored.absmax.repeat_interleave(stored.block)
    return flat[: math.prod(stored.shape)].reshape(stored.shape).to(dtype)


# %% qlora-scales
def quantize_scales(absmax: Tensor, group: int = 256) -> Scales:
    if not group > 0:
        raise ValueError("group")
    mean = absmax.mean()
    factors, codes = [], []
    for part in (absmax - mean).split(group):
        factor = part.abs().max() / 127
        factors.append(factor)
        codes.append(torch.round(part / factor) if factor > 0 else torch.zeros_like(part))
    return Scales(torch.cat(codes).to(torch.int8), torch.stack(factors), mean, group)


def restore_scales(stored: Scales) -> Tensor:
    parts = [c.float() * f for c, f in zip(stored.codes.split(stored.group), stored.factors, strict=True)]
    return torch.cat(parts) + stored.mean


# %% qlora-recompute
class OnDemandLinear(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, make_weight):
        ctx.again = make_weight
        return torch.matmul(x, make_weight().t())

    @staticmethod
    def backward(ctx, g):
        return torch.matmul(g, ctx.again()), None


# %% qlora-layer
class QLoRALinear(nn.Module):
    def __init__(self, base, r, alpha, codebook, block=64, group=256):
        super().__init__()
        whole = quantize(base.weight, codebook, block)
        self.scales = quantize_scales(whole.absmax, group)
        self.stored = Quantized(whole.codes, torch.empty(0), whole.shape, block)
        self.register_buffer("bias", None if base.bias is None else base.bias.detach().clone().float())
        self.book, self.factor = codebook, alpha / r
        bound = 1 / math.sqrt(base.in_features)
        self.A = nn.Parameter((torch.rand(r, base.in_features) * 2 - 1) * bound)
        self.B = nn.Parameter(torch.zeros(base.out_features, r))

    def weight(self, dtype=torch.float32):
        absmax = restore_scales(self.scales)
        return dequantize(Quantized(self.stored.codes, absmax, self.stored.shape, self.stored.block), self.book, dtype)

    def forward(self, x):
        out = OnDemandLinear.apply(x, lambda: self.weight(x.dtype)) + (x @ self.A.T @ self.B.T) * self.factor
        return out + self.bias if self.bias is not None else out


# %% qlora-budget
def memory_budget(shape: LlamaShape, *, r: int, batch: int, length: int, block: int = 64, group: int = 256) -> dict[str, float]:
    h, i, kv = shape.hidden, shape.intermediate, shape.kv_heads * (shape.hidden // shape.heads)
    inner = shape.layers * (2 * h * h + 2 * h * kv + 3 * h * i)
    thin = shape.layers * r * (4 * h + 2 * (h + kv) + 3 * (h + i))
    lines = {}
    lines["base"] = inner / 2 + inner / block + 4 * inner / block / group
    lines["rest"] = 2.0 * h * (2 * shape.vocab + 2 * shape.layers + 1)
    lines["adapters"] = lines["gradients"] = 4.0 * thin
    lines["optimizer"] = 8.0 * thin
    lines["checkpoints"] = 2.0 * shape.layers * batch * length * h
    lines["block"] = 2.0 * batch * length * (8 * h + 4 * i)
    lines["logits"] = 2 * 4.0 * batch * length * shape.vocab
    lines["weight"] = 2.0 * max(h * h, h * i)
    lines["total"] = math.fsum(lines.values())
    return lines
