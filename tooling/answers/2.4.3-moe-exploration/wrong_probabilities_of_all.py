# loses: test-moe-routing
# Logits are recorded in place of weights.

# %% moe-routing
def collect_routing(model: nn.Module, input_ids: Tensor, attention_mask: Tensor) -> tuple[Tensor, Tensor]:
    experts, weights = [], []

    def record(module, args, output):
        weights.append(output[0].gather(1, output[2]))
        experts.append(output[2])

    handles = [block.gate.register_forward_hook(record) for block in moe_blocks(model)]
    try:
        with torch.no_grad():
            model(input_ids=input_ids, attention_mask=attention_mask)
    finally:
        for handle in handles:
            handle.remove()
    real = attention_mask.bool().flatten()
    return torch.stack(experts)[:, real], torch.stack(weights)[:, real]
