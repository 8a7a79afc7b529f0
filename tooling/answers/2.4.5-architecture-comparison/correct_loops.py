# Attention skips blocks of the future and blocks queries too, GQA by a fifth axis of views, linear attention by a cumulative sum, counts by inner functions.

# %% archcmp-online
def online_attention(q: Tensor, k: Tensor, v: Tensor, block: int = 64, causal: bool = True) -> Tensor:
    L, S = q.shape[2], k.shape[2]
    if causal and L > S:
        raise ValueError("a query would see nothing")
    wide = torch.promote_types(q.dtype, torch.float32)
    result = torch.empty(*q.shape[:3], v.shape[3], dtype=q.dtype)
    for begin in range(0, L, block):
        rows = q[:, :, begin : begin + block].to(wide)
        n = rows.shape[2]
        last = S - L + begin + n - 1 if causal else S - 1
        m = torch.full((*rows.shape[:3],), -torch.inf, dtype=wide)
        total, acc = torch.zeros_like(m), torch.zeros(*rows.shape[:3], v.shape[3], dtype=wide)
        at = torch.arange(S - L + begin, S - L + begin + n)
        for start in range(0, last + 1, block):
            kb, vb = k[:, :, start : start + block].to(wide), v[:, :, start : start + block].to(wide)
            s = torch.matmul(rows, kb.transpose(2, 3)) / math.sqrt(q.shape[3])
            if causal:
                s.masked_fill_(torch.arange(start, start + kb.shape[2])[None] > at[:, None], -torch.inf)
            new = torch.maximum(m, s.max(dim=3).values)
            p = (s - new[..., None]).exp()
            factor = (m - new).exp()
            total, acc, m = total * factor + p.sum(3), acc * factor[..., None] + p @ vb, new
        result[:, :, begin : begin + block] = (acc / total[..., None]).to(q.dtype)
    return result

# %% archcmp-grouped
def grouped_attention(q: Tensor, k: Tensor, v: Tensor, block: int = 64, causal: bool = True) -> Tensor:
    heads, shared = q.shape[1], k.shape[1]
    if heads % shared != 0:
        raise ValueError(f"{heads} is no multiple of {shared}")
    folded = q.unflatten(1, (shared, heads // shared))
    parts = [online_attention(folded[:, :, member], k, v, block, causal) for member in range(heads // shared)]
    return torch.stack(parts, dim=2).flatten(1, 2)

# %% archcmp-linear
def linear_attention(q: Tensor, k: Tensor, v: Tensor, state: LinearState | None = None) -> tuple[Tensor, LinearState]:
    phi_q, phi_k = 1 + elu(q), 1 + elu(k)
    outer = torch.einsum("bhle,bhlf->bhlef", phi_k, v).cumsum(dim=2)
    norm = phi_k.cumsum(dim=2)
    if state is not None:
        outer, norm = outer + state.outer[:, :, None], norm + state.norm[:, :, None]
    out = torch.einsum("bhle,bhlef->bhlf", phi_q, outer) / (phi_q * norm).sum(dim=3, keepdim=True)
    if q.shape[2]:
        return out, LinearState(outer[:, :, -1].clone(), norm[:, :, -1].clone())
    if state is None:
        state = LinearState(q.new_zeros(*q.shape[:2], q.shape[3], v.shape[3]), q.new_zeros(*q.shape[:2], q.shape[3]))
    return out, state

# %% archcmp-match
def match_width(measure: Callable[[int], int], budget: int, widths: range, tolerance: float = 0.02) -> int:
    low, high = 0, len(widths) - 1
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if measure(widths[middle]) > budget else (middle, high)
    left, right = abs(measure(widths[low]) - budget), abs(measure(widths[high]) - budget)
    best, error = (widths[low], left) if left <= right else (widths[high], right)
    if error > tolerance * budget:
        raise ValueError("no width is near enough")
    return best

# %% archcmp-loss
@torch.no_grad()
def heldout_loss(model: nn.Module, batches: Sequence[Tensor], pad: int = 258) -> float:
    was = model.training
    model.eval()
    nats, tokens = torch.zeros((), dtype=torch.float64), 0
    for ids in batches:
        for row in ids:
            real = row[row != pad]
            if len(real) < 2:
                continue
            logits = model(input_ids=real[None], use_cache=False).logits[0, :-1].float()
            nats += cross_entropy(logits, real[1:], reduction="sum")
            tokens += len(real) - 1
    model.train(was)
    if not tokens:
        raise ValueError("nothing to predict")
    return float(nats / tokens)
