# Unchosen logits at -inf and one softmax; a dense table of weights; places numbered by sorting; scatter for counts.

# %% router-gate
def _wide(logits: Tensor) -> Tensor:
    return logits if logits.dtype == torch.float64 else logits.float()


def top_k_gate(
    logits: Tensor, k: int, softmax: Literal["before", "after"] = "before", renormalise: bool = True
) -> tuple[Tensor, Tensor]:
    if k not in range(1, logits.shape[1] + 1):
        raise ValueError(f"{k} of {logits.shape[1]} experts")
    if softmax != "before" and softmax != "after":
        raise ValueError(softmax)
    wide = _wide(logits)
    indices = wide.detach().topk(k).indices
    if softmax == "before" and not renormalise:
        return wide.softmax(-1).gather(1, indices), indices
    closed = torch.ones_like(wide, dtype=torch.bool).scatter(1, indices, False)
    return wide.masked_fill(closed, -math.inf).softmax(-1).gather(1, indices), indices

# %% router-mix
def mix_experts(
    x: Tensor,
    weights: Tensor,
    indices: Tensor,
    experts: Sequence[Callable[[Tensor], Tensor]],
    shared: Sequence[Callable[[Tensor], Tensor]] = (),
) -> Tensor:
    if x.dtype != weights.dtype:
        weights = weights.to(x.dtype)
    results = [expert(x) for expert in shared]
    for number, expert in enumerate(experts):
        mine = indices.eq(number)
        rows = mine.any(dim=1)
        if rows.any():
            share = (weights * mine).sum(dim=1)[rows]
            full = torch.zeros_like(x)
            full[rows] = share[:, None] * expert(x[rows])
            results.append(full)
    return sum(results, torch.zeros_like(x))

# %% router-capacity
def expert_capacity(tokens: int, k: int, num_experts: int, factor: float) -> int:
    full, rest = divmod(factor * tokens * k, num_experts)
    return int(full) + (rest > 0)


def keep_within(indices: Tensor, num_experts: int, capacity: int) -> Tensor:
    queue = indices.T.reshape(-1)
    order = torch.argsort(queue, stable=True)
    counts = torch.bincount(queue, minlength=num_experts)
    first = counts.cumsum(0) - counts
    rank = torch.empty_like(queue)
    rank[order] = torch.arange(len(queue)) - first[queue[order]]
    return (rank < capacity).reshape(indices.shape[1], indices.shape[0]).T.contiguous()

# %% router-balance
def balance_loss(logits: Tensor, indices: Tensor, mask: Tensor | None = None) -> Tensor:
    wide = logits.double()
    if mask is not None:
        wide, indices = wide[mask == 1], indices[mask == 1]
    counts = torch.zeros(wide.shape[1], dtype=torch.float64)
    counts = counts.scatter_add(0, indices.reshape(-1), torch.ones(indices.numel(), dtype=torch.float64))
    loss = (counts * wide.softmax(-1).sum(0)).sum() * wide.shape[1] / (indices.numel() * len(wide))
    return loss if logits.dtype == torch.float64 else loss.float()

# %% router-z
def z_loss(logits: Tensor, mask: Tensor | None = None) -> Tensor:
    kept = logits if mask is None else logits[mask > 0]
    kept = kept if kept.dtype == torch.float64 else kept.float()
    return torch.mean(torch.logsumexp(kept, -1) ** 2)

# %% router-bias
def biased_gate(logits: Tensor, bias: Tensor, k: int, scale: float = 1.0) -> tuple[Tensor, Tensor]:
    scores = torch.sigmoid(logits)
    _, chosen = torch.topk(scores.detach() + bias.detach(), k, sorted=False)
    table = torch.zeros_like(scores, dtype=torch.bool).scatter(1, chosen, True)
    normed = torch.where(table, scores, 0.0)
    normed = scale * normed / normed.sum(dim=1, keepdim=True)
    return normed.gather(1, chosen), chosen


def update_bias(bias: Tensor, counts: Tensor, rate: float) -> Tensor:
    average = counts.sum().item() / len(counts)
    steps = [rate if c < average else -rate if c > average else 0.0 for c in counts.tolist()]
    return bias.detach() + torch.tensor(steps, dtype=bias.dtype)

# %% router-look
def selection_table(indices: Tensor, groups: Tensor, num_groups: int, num_experts: int) -> Tensor:
    chosen = nn.functional.one_hot(indices + 1, num_experts + 1).sum(dim=1)[:, 1:].float()
    member = nn.functional.one_hot(groups, num_groups).float()
    return nn.functional.normalize(member.T @ chosen, p=1.0, dim=1)


def load_stats(counts: Tensor) -> dict[str, float]:
    share = counts.double() / counts.sum()
    busy = share[share > 0]
    return {
        "entropy": float(-(busy * busy.log()).sum() / math.log(counts.numel())),
        "max_violation": float(share.max() / share.mean() - 1),
        "idle": 1 - len(busy) / counts.numel(),
    }
