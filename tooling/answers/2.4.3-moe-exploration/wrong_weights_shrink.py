# loses: test-moe-ablation keeps 1
# The expert's weight is lost, and the sum of weights with it.

# %% moe-ablation
@contextmanager
def without_expert(model: nn.Module, layer: int, expert: int) -> Iterator[None]:
    blocks = moe_blocks(model)
    if not 0 <= layer < len(blocks) or not 0 <= expert < blocks[layer].experts.num_experts:
        raise ValueError(f"there is no expert {expert} in an MoE layer {layer}")

    def silence(module, args, output):
        logits, weights, experts = output
        kept = weights * (experts != expert)
        return logits, kept, experts

    handle = blocks[layer].gate.register_forward_hook(silence)
    try:
        yield
    finally:
        handle.remove()
