# loses: test-moe-routing keeps 2
# The model does not get the mask, so real tokens look at padding.

# %% moe-routing
def collect_routing(model: nn.Module, input_ids: Tensor, attention_mask: Tensor) -> tuple[Tensor, Tensor]:
    experts, weights = [], []

    def record(module, args, output):
        weights.append(output[1])
        experts.append(output[2])

    handles = [block.gate.register_forward_hook(record) for block in moe_blocks(model)]
    try:
        with torch.no_grad():
            model(input_ids=input_ids)
    finally:
        for handle in handles:
            handle.remove()
    real = attention_mask.bool().flatten()
    return torch.stack(experts)[:, real], torch.stack(weights)[:, real]
