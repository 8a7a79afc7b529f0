# A context manager of the student's own for hooks, sizes of one expert, scatter_add for tables, the experts hooked.

# %% moe-count
def count_parameters(model: nn.Module) -> dict[str, int]:
    routed, idle = 0, 0
    for module in moe_blocks(model):
        one = module.experts.gate_up_proj[0].numel() + module.experts.down_proj[0].numel()
        routed += one * module.experts.num_experts
        idle += one * (module.experts.num_experts - module.gate.top_k)
    total = sum(map(torch.numel, model.parameters()))
    return {"total": total, "routed": routed, "active": total - idle}


def expected_experts(num_experts: int, k: int, tokens: int) -> float:
    return sum(1 - math.pow(1 - k / num_experts, tokens) for _ in range(num_experts))

# %% moe-routing
@contextmanager
def hooked(modules, hook):
    handles = []
    try:
        for module in modules:
            handles.append(module.register_forward_hook(hook))
        yield
    finally:
        while handles:
            handles.pop().remove()


def collect_routing(model: nn.Module, input_ids: Tensor, attention_mask: Tensor) -> tuple[Tensor, Tensor]:
    gates = [block.gate for block in moe_blocks(model)]
    table, rows = {}, attention_mask.flatten().nonzero()[:, 0]

    def keep(gate, args, output):
        table[gate] = output[2][rows].clone(), output[1][rows].detach().clone()

    with hooked(gates, keep):
        model(input_ids=input_ids, attention_mask=attention_mask, use_cache=False)
    experts, weights = zip(*(table[gate] for gate in gates), strict=True)
    return torch.stack(experts), torch.stack(weights)

# %% moe-information
def shares(experts: Tensor, groups: Tensor, num_groups: int, num_experts: int) -> Tensor:
    one = torch.zeros(num_groups, num_experts, dtype=torch.float64)
    for place in experts.T:
        one.view(-1).scatter_add_(0, groups * num_experts + place, torch.ones(len(groups), dtype=torch.float64))
    return one / one.sum()


def mutual_information(experts: Tensor, groups: Tensor, num_groups: int, num_experts: int) -> float:
    bits, joint = 0.0, shares(experts, groups, num_groups, num_experts)
    by_group, by_expert = joint.sum(dim=1).tolist(), joint.sum(dim=0).tolist()
    for group, row in enumerate(joint.tolist()):
        for expert, share in enumerate(row):
            if share:
                bits += share * math.log2(share / by_group[group] / by_expert[expert])
    return bits

# %% moe-permutation
def permutation_test(
    experts: Tensor, prompts: Tensor, domains: Tensor, permutations: Tensor, num_experts: int
) -> dict[str, float]:
    def bits(labels):
        return mutual_information(experts, labels.gather(0, prompts), int(labels.max()) + 1, num_experts)

    true, chance, hits = bits(domains), 0.0, 1
    for row in range(permutations.shape[0]):
        value = bits(domains.gather(0, permutations[row]))
        chance += value / permutations.shape[0]
        hits += 1 if value + 1e-9 >= true else 0
    return {"information": true, "chance": chance, "p": hits / (permutations.shape[0] + 1)}

# %% moe-ablation
@contextmanager
def without_expert(model: nn.Module, layer: int, expert: int) -> Iterator[None]:
    if min(layer, expert) < 0 or layer >= len(moe_blocks(model)):
        raise ValueError(f"layer {layer}, expert {expert}")
    block = moe_blocks(model)[layer]
    if expert >= block.experts.num_experts:
        raise ValueError(f"expert {expert} of {block.experts.num_experts}")

    def change(module, args):
        rows, experts, weights = args
        others = (experts != expert).to(weights.dtype)
        left = (weights * others).sum(dim=1)
        factor = torch.zeros_like(left)
        factor[left > 0] = weights.sum(dim=1)[left > 0] / left[left > 0]
        return rows, experts, weights * others * factor[:, None]

    handle = block.experts.register_forward_pre_hook(change)
    try:
        yield
    finally:
        handle.remove()
