# Attention head by head and in log space, GQA with the group folded into the rows of a fifth axis, a running sum in linear attention, bisect.

# %% archcmp-online
def online_attention(q: Tensor, k: Tensor, v: Tensor, block: int = 64, causal: bool = True) -> Tensor:
    L, S = q.shape[2], k.shape[2]
    if causal and S < L:
        raise ValueError("a query would see nothing")
    wide = torch.float64 if q.dtype == torch.float64 else torch.float32
    q = q.to(wide)
    lse, out = None, None
    for kb, vb, places in zip(k.split(block, 2), v.split(block, 2), torch.arange(S).split(block), strict=True):
        s = torch.einsum("bhle,bhse->bhls", q, kb.to(wide)) / math.sqrt(q.shape[3])
        if causal:
            visible = places[None, :] <= torch.arange(L)[:, None] + (S - L)
            s = torch.where(visible, s, torch.tensor(-math.inf, dtype=wide))
        here = torch.logsumexp(s, dim=3, keepdim=True)
        if lse is None:
            lse, out = here, torch.exp(s - here) @ vb.to(wide)
            continue
        both = torch.logaddexp(lse, here)
        out = torch.exp(lse - both) * out + torch.exp(s - both) @ vb.to(wide)
        lse = both
    return out.to(v.dtype)

# %% archcmp-grouped
def grouped_attention(q: Tensor, k: Tensor, v: Tensor, block: int = 64, causal: bool = True) -> Tensor:
    group, rest = divmod(q.shape[1], k.shape[1])
    if rest or group == 0:
        raise ValueError("key-value heads do not divide the query heads")
    results = []
    for head in range(q.shape[1]):
        one = slice(head // group, head // group + 1)
        results.append(online_attention(q[:, head : head + 1], k[:, one], v[:, one], block=block, causal=causal))
    return torch.cat(results, dim=1)

# %% archcmp-linear
def linear_attention(q: Tensor, k: Tensor, v: Tensor, state: LinearState | None = None) -> tuple[Tensor, LinearState]:
    fq, fk = (torch.where(x > 0, x + 1, torch.exp(x)) for x in (q, k))
    if state is None:
        outer = torch.zeros(*q.shape[:2], q.shape[3], v.shape[3], dtype=q.dtype)
        norm = torch.zeros(*q.shape[:2], q.shape[3], dtype=q.dtype)
    else:
        outer, norm = state.outer.clone(), state.norm.clone()
    out = torch.empty_like(v)
    for t in range(q.shape[2]):
        outer = outer + fk[:, :, t, :, None] * v[:, :, t, None, :]
        norm = norm + fk[:, :, t]
        out[:, :, t] = torch.einsum("bhe,bhef->bhf", fq[:, :, t], outer) / (fq[:, :, t] * norm).sum(-1, keepdim=True)
    return out, LinearState(outer, norm)

# %% archcmp-parameters
def shapes(config, layer):
    h, d, n, r = config.hidden_size, config.mamba_expand * config.hidden_size, config.mamba_d_state, config.mamba_dt_rank
    yield from ([h], [h])
    if config.layers_block_type[layer] == "attention":
        kv = config.num_key_value_heads * h // config.num_attention_heads
        yield from ([h, h], [h, kv], [h, kv], [h, h])
    else:
        yield from ([h, 2 * d], [d, config.mamba_d_conv], [d], [d, r + 2 * n], [r, d], [d], [d, n], [d], [d, h], [r], [n], [n])


def parameters(config: JambaConfig, active: bool = False) -> int:
    count = config.vocab_size * config.hidden_size * (2 - bool(config.tie_word_embeddings)) + config.hidden_size
    for layer, experts in enumerate(config.layers_num_experts):
        count += sum(math.prod(shape) for shape in shapes(config, layer))
        one = 3 * config.hidden_size * config.intermediate_size
        if experts == 1:
            count += one
        else:
            count += experts * config.hidden_size + one * (config.num_experts_per_tok if active else experts)
    return count

# %% archcmp-flops
def flops_per_token(config: JambaConfig, context: int) -> int:
    h, d = config.hidden_size, config.hidden_size * config.mamba_expand
    head = h // config.num_attention_heads
    total = 2 * config.vocab_size * h
    for layer, kind in enumerate(config.layers_block_type):
        experts = config.layers_num_experts[layer]
        if experts == 1:
            total += 6 * h * config.intermediate_size
        else:
            total += 2 * experts * h + 6 * h * config.intermediate_size * config.num_experts_per_tok
        if kind == "mamba":
            total += 2 * h * 2 * d + 2 * d * config.mamba_d_conv + 2 * d * (config.mamba_dt_rank + 2 * config.mamba_d_state)
            total += 2 * config.mamba_dt_rank * d + 2 * d * config.mamba_d_state + 2 * d * h
        else:
            total += 2 * h * head * (2 * config.num_attention_heads + 2 * config.num_key_value_heads)
            total += 4 * config.num_attention_heads * head * context
    return total

# %% archcmp-match
import bisect


def match_width(measure: Callable[[int], int], budget: int, widths: range, tolerance: float = 0.02) -> int:
    place = bisect.bisect_left(widths, budget, key=measure)
    near = [widths[n] for n in (place - 1, place) if 0 <= n < len(widths)]
    best = min(near, key=lambda width: abs(measure(width) - budget))
    if abs(measure(best) - budget) / budget > tolerance:
        raise ValueError("nothing is near enough")
    return best

# %% archcmp-loss
def heldout_loss(model: nn.Module, batches: Sequence[Tensor], pad: int = 258) -> float:
    before = model.training
    model.train(False)
    terms = []
    try:
        with torch.inference_mode():
            for ids in batches:
                logits = model(input_ids=ids, use_cache=False).logits.double()
                logp = torch.log_softmax(logits[:, :-1], dim=2)
                target = ids[:, 1:].clone()
                keep = target != pad
                target[~keep] = 0
                terms.extend((-logp.gather(2, target[:, :, None])[:, :, 0])[keep].tolist())
    finally:
        model.train(before)
    if not terms:
        raise ValueError("nothing to predict")
    return math.fsum(terms) / len(terms)

# %% archcmp-verdict
def verdict(first: Sequence[float], second: Sequence[float]) -> Verdict:
    n = len(first)
    if n != len(second) or n < 2 or n - 1 not in T_975:
        raise ValueError("two to ten pairs")
    d = torch.tensor([list(first), list(second)], dtype=torch.float64)
    if not torch.isfinite(d).all():
        raise ValueError("not finite")
    d = d[0] - d[1]
    mean, error = d.mean().item(), d.std(unbiased=True).item() / n**0.5
    low, high = mean - T_975[n - 1] * error, mean + T_975[n - 1] * error
    if low <= 0 <= high:
        return Verdict(mean, low, high, "undecided")
    return Verdict(mean, low, high, "first" if high < 0 else "second")

# %% archcmp-report
def report(rows: Mapping[str, Measured], baseline: str) -> str:
    if baseline not in rows:
        raise ValueError("no such baseline")
    order = sorted((sum(row.losses) / len(row.losses), place, name) for place, (name, row) in enumerate(rows.items()))
    table = HEADER.format(baseline)
    for loss, _, name in order:
        row = rows[name]
        if name == baseline:
            word = "baseline"
        else:
            word = {"first": "worse", "second": "better"}.get(verdict(rows[baseline].losses, row.losses).winner, "undecided")
        table += (f"\n| {name} | {math.exp(loss):.2f} | {math.exp(min(row.losses)):.2f} | {math.exp(max(row.losses)):.2f} | {word}"
                  f" | {row.parameters:,} | {row.active:,} | {row.flops / 1e3:,.1f} | {row.tokens_per_second:,.0f}"
                  f" | {row.cache_bytes / 1024:,.1f} |")
    return table
