# loses: test-moe-ablation keeps 1, test-moe-module
# 0 / 0 for a token that has no other expert.

# %% moe-ablation
@contextmanager
def without_expert(model: nn.Module, layer: int, expert: int) -> Iterator[None]:
    blocks = moe_blocks(model)
    if not 0 <= layer < len(blocks) or not 0 <= expert < blocks[layer].experts.num_experts:
        raise ValueError(f"there is no expert {expert} in an MoE layer {layer}")

    def silence(module, args, output):
        logits, weights, experts = output
        kept = weights * (experts != expert)
        rest = kept.sum(dim=-1, keepdim=True)
        return logits, kept * (weights.sum(dim=-1, keepdim=True) / rest), experts

    handle = blocks[layer].gate.register_forward_hook(silence)
    try:
        yield
    finally:
        handle.remove()
