# loses: test-moe-routing keeps 0
# Gates are wrapped, and stay wrapped.

# %% moe-routing
def collect_routing(model: nn.Module, input_ids: Tensor, attention_mask: Tensor) -> tuple[Tensor, Tensor]:
    experts, weights = [], []

    def record(module, args, output):
        weights.append(output[1])
        experts.append(output[2])

    handles = []
    for block in moe_blocks(model):
        def wrapped(rows, forward=block.gate.forward):
            output = forward(rows)
            record(None, rows, output)
            return output
        block.gate.forward = wrapped
    try:
        with torch.no_grad():
            model(input_ids=input_ids, attention_mask=attention_mask)
    finally:
        for handle in handles:
            handle.remove()
    real = attention_mask.bool().flatten()
    return torch.stack(experts)[:, real], torch.stack(weights)[:, real]
