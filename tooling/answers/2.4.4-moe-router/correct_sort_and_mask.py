# Sorting in place of topk, one-hot masks in place of where, experts on sorted runs of rows, a loop for the queue.

# %% router-gate
def top_k_gate(
    logits: Tensor, k: int, softmax: Literal["before", "after"] = "before", renormalise: bool = True
) -> tuple[Tensor, Tensor]:
    if k < 1 or k > logits.shape[1] or softmax not in {"before", "after"}:
        raise ValueError("k or softmax is out of its range")
    wide = logits.to(torch.promote_types(logits.dtype, torch.float32))
    ordered, indices = torch.sort(wide, dim=1, descending=True)
    indices = indices[:, :k]
    if softmax == "after" or renormalise:
        return torch.softmax(ordered[:, :k], dim=1), indices
    return torch.log_softmax(ordered, dim=1)[:, :k].exp(), indices

# %% router-mix
def mix_experts(
    x: Tensor,
    weights: Tensor,
    indices: Tensor,
    experts: Sequence[Callable[[Tensor], Tensor]],
    shared: Sequence[Callable[[Tensor], Tensor]] = (),
) -> Tensor:
    width = indices.shape[1]
    flat = indices.flatten()
    order = flat.argsort(stable=True)
    start = int((flat < 0).sum())
    pieces = [x.new_zeros(start, x.shape[1])]
    for number, expert in enumerate(experts):
        count = int((flat == number).sum())
        if count:
            places = order[start:start + count]
            pieces.append(expert(x[places // width]) * weights.flatten()[places, None])
            start += count
    joined = torch.cat(pieces)[order.argsort()].reshape(len(x), width, x.shape[1])
    total = joined.sum(dim=1)
    for expert in shared:
        total = total + expert(x)
    return total.to(x.dtype)

# %% router-capacity
def expert_capacity(tokens: int, k: int, num_experts: int, factor: float) -> int:
    return -int(-(factor * tokens * k) // num_experts)


def keep_within(indices: Tensor, num_experts: int, capacity: int) -> Tensor:
    taken = torch.zeros(num_experts, dtype=torch.long)
    kept = torch.zeros(indices.shape, dtype=torch.bool)
    for column in range(indices.shape[1]):
        for row in range(indices.shape[0]):
            expert = indices[row, column]
            if taken[expert] < capacity:
                kept[row, column] = True
                taken[expert] += 1
    return kept

# %% router-balance
def balance_loss(logits: Tensor, indices: Tensor, mask: Tensor | None = None) -> Tensor:
    wide = logits.to(torch.promote_types(logits.dtype, torch.float32))
    weight = torch.ones(len(wide), dtype=wide.dtype) if mask is None else mask.to(wide.dtype)
    chosen = nn.functional.one_hot(indices, wide.shape[1]).to(wide.dtype).mean(dim=1)
    share = weight @ chosen / weight.sum()
    likely = weight @ torch.exp(torch.log_softmax(wide, dim=1)) / weight.sum()
    return wide.shape[1] * torch.dot(share, likely)

# %% router-z
def z_loss(logits: Tensor, mask: Tensor | None = None) -> Tensor:
    wide = logits.to(torch.promote_types(logits.dtype, torch.float32))
    top = wide.max(dim=1).values
    log_sum = top + (wide - top[:, None]).exp().sum(dim=1).log()
    weight = torch.ones_like(log_sum) if mask is None else mask.to(log_sum.dtype)
    return (weight * log_sum**2).sum() / weight.sum()

# %% router-bias
def biased_gate(logits: Tensor, bias: Tensor, k: int, scale: float = 1.0) -> tuple[Tensor, Tensor]:
    scores = 1 / (1 + torch.exp(-logits))
    chosen = (scores.detach() + bias.detach()).argsort(dim=1, descending=True)[:, :k]
    weights = torch.take_along_dim(scores, chosen, dim=1)
    return weights * (scale / weights.sum(dim=1, keepdim=True)), chosen


def update_bias(bias: Tensor, counts: Tensor, rate: float) -> Tensor:
    average = counts.double().mean()
    return bias + rate * (counts < average).to(bias.dtype) - rate * (counts > average).to(bias.dtype)

# %% router-look
def selection_table(indices: Tensor, groups: Tensor, num_groups: int, num_experts: int) -> Tensor:
    table = torch.zeros(num_groups, num_experts)
    for place in range(indices.shape[1]):
        kept = indices[:, place] >= 0
        ones = torch.ones(int(kept.sum()))
        table.index_put_((groups[kept], indices[kept, place]), ones, accumulate=True)
    sums = table.sum(dim=1, keepdim=True)
    return torch.where(sums > 0, table / sums, 0.0)


def load_stats(counts: Tensor) -> dict[str, float]:
    loads = [float(c) for c in counts]
    total, mean = sum(loads), sum(loads) / len(loads)
    entropy = sum(c / total * math.log(total / c) for c in loads if c) / math.log(len(loads))
    return {"entropy": entropy, "max_violation": max(loads) / mean - 1, "idle": loads.count(0.0) / len(loads)}
