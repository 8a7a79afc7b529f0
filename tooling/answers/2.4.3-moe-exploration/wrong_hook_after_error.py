# loses: test-moe-ablation keeps 2
# After an error within, the expert stays off.

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
        return logits, kept * (weights.sum(dim=-1, keepdim=True) / rest.where(rest > 0, 1)), experts

    handle = blocks[layer].gate.register_forward_hook(silence)
    yield
    handle.remove()
