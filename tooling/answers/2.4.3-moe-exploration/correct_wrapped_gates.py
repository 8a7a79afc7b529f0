# Gates are wrapped in place of hooked, prompts read one by one, entropies in place of quotients, loops and one-hot tables.

# %% moe-count
def count_parameters(model: nn.Module) -> dict[str, int]:
    blocks = moe_blocks(model)
    routed = [sum(p.numel() for p in block.experts.parameters()) for block in blocks]
    used = [size * block.gate.top_k // block.experts.num_experts for size, block in zip(routed, blocks, strict=True)]
    total = sum({id(p): p.numel() for p in model.parameters()}.values())
    return {"active": total - sum(routed) + sum(used), "total": total, "routed": sum(routed)}


def expected_experts(num_experts: int, k: int, tokens: int) -> float:
    missing = 1.0
    for _ in range(tokens):
        missing *= (num_experts - k) / num_experts
    return num_experts - num_experts * missing

# %% moe-routing
class Recorder:
    """Stands in for a gate's forward and keeps what it returns."""

    def __init__(self, gate):
        self.gate, self.forward, self.said = gate, gate.forward, []
        gate.forward = self

    def __call__(self, rows):
        self.said.append(self.forward(rows))
        return self.said[-1]


@torch.inference_mode(False)
@torch.no_grad()
def collect_routing(model: nn.Module, input_ids: Tensor, attention_mask: Tensor) -> tuple[Tensor, Tensor]:
    recorders = [Recorder(block.gate) for block in moe_blocks(model)]
    try:
        for row, real in zip(input_ids, attention_mask.bool(), strict=True):
            model(row[real][None])
    finally:
        for recorder in recorders:
            del recorder.gate.forward
    experts = [torch.cat([said[2] for said in recorder.said]) for recorder in recorders]
    weights = [torch.cat([said[1] for said in recorder.said]) for recorder in recorders]
    return torch.stack(experts), torch.stack(weights)

# %% moe-information
def entropy_bits(counts: Tensor) -> float:
    shares = counts[counts > 0].double() / counts.sum()
    return -(shares * shares.log2()).sum().item()


def mutual_information(experts: Tensor, groups: Tensor, num_groups: int, num_experts: int) -> float:
    table = torch.zeros(num_groups, num_experts, dtype=torch.int64)
    table.index_put_((groups.repeat_interleave(experts.shape[1]), experts.flatten()), torch.tensor(1), accumulate=True)
    return entropy_bits(table.sum(0)) + entropy_bits(table.sum(1)) - entropy_bits(table.flatten())

# %% moe-permutation
def permutation_test(
    experts: Tensor, prompts: Tensor, domains: Tensor, permutations: Tensor, num_experts: int
) -> dict[str, float]:
    kinds = max(domains.tolist()) + 1
    deals = torch.cat([torch.arange(len(domains))[None], permutations])
    bits = torch.tensor(
        [mutual_information(experts, domains[deal].index_select(0, prompts), kinds, num_experts) for deal in deals],
        dtype=torch.float64,
    )
    return {
        "p": (bits > bits[0] - 1e-9).double().mean().item(),
        "chance": bits[1:].mean().item(),
        "information": bits[0].item(),
    }

# %% moe-affinity
def affinity(experts: Tensor, features: Tensor, num_experts: int, prior: float = 1.0) -> Tensor:
    load = experts.flatten().bincount(minlength=num_experts).double()
    rows = []
    for has in features.T:
        found = experts[has].flatten().bincount(minlength=num_experts).double()
        expected = found.sum() * load / load.sum()
        rows.append((found + prior).log2() - (expected + prior).log2())
    return torch.stack(rows)


def overlap(experts: Tensor, prompts: Tensor, num_prompts: int, num_experts: int) -> Tensor:
    share = torch.zeros(num_prompts, num_experts, dtype=torch.float64)
    for prompt in range(num_prompts):
        own = experts[prompts == prompt].flatten()
        share[prompt] = own.bincount(minlength=num_experts) / own.double().numel()
    return 1 - torch.cdist(share, share, p=1) / 2

# %% moe-ablation
@contextmanager
def without_expert(model: nn.Module, layer: int, expert: int) -> Iterator[None]:
    blocks = moe_blocks(model)
    if layer not in range(len(blocks)) or expert not in range(blocks[layer].experts.num_experts):
        raise ValueError("no such expert")
    gate = blocks[layer].gate
    own = gate.forward

    def forward(rows):
        logits, weights, experts = own(rows)
        gone = experts == expert
        lost = (weights * gone).sum(dim=1, keepdim=True)
        kept = weights.masked_fill(gone, 0)
        return logits, kept + lost * (kept / kept.sum(dim=1, keepdim=True)).nan_to_num(), experts

    gate.forward = forward
    try:
        yield
    finally:
        del gate.forward

# %% moe-losses
@torch.no_grad()
def domain_losses(model: nn.Module, input_ids: Tensor, attention_mask: Tensor, domains: Tensor, num_domains: int) -> Tensor:
    scores = model(input_ids, attention_mask=attention_mask).logits.log_softmax(dim=2)[:, :-1]
    surprise = -scores.gather(2, input_ids[:, 1:, None])[:, :, 0]
    both = attention_mask[:, 1:].bool() & attention_mask[:, :-1].bool()
    return torch.stack([surprise[both & (domains == d)[:, None]].mean() for d in range(num_domains)])
