# loses: test-moe-routing keeps 0
# The hooks are never removed.

# %% moe-routing
def collect_routing(model: nn.Module, input_ids: Tensor, attention_mask: Tensor) -> tuple[Tensor, Tensor]:
    experts, weights = [], []

    def record(module, args, output):
        weights.append(output[1])
        experts.append(output[2])

    handles = [block.gate.register_forward_hook(record) for block in moe_blocks(model)]
    try:
        with torch.no_grad():
            model(input_ids=input_ids, attention_mask=attention_mask)
    finally:
        handles.clear()
    real = attention_mask.bool().flatten()
    return torch.stack(experts)[:, real], torch.stack(weights)[:, real]
