# loses: test-moe-routing keeps 2
# All hooks of the gates are cleared, those of others too.

# %% moe-routing
def collect_routing(model: nn.Module, input_ids: Tensor, attention_mask: Tensor) -> tuple[Tensor, Tensor]:
    experts, weights = [], []

    def record(module, args, output):
        weights.append(output[1])
        experts.append(output[2])

    for block in moe_blocks(model):
        block.gate.register_forward_hook(record)
    try:
        with torch.no_grad():
            model(input_ids=input_ids, attention_mask=attention_mask)
    finally:
        for block in moe_blocks(model):
            block.gate._forward_hooks.clear()
    real = attention_mask.bool().flatten()
    return torch.stack(experts)[:, real], torch.stack(weights)[:, real]
