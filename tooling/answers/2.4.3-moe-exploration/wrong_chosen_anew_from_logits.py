# loses: test-moe-routing keeps 4
# The choice is made anew from the logits, without the bias of DeepSeek-V3 and with weights that sum to 1.

# %% moe-routing
def collect_routing(model: nn.Module, input_ids: Tensor, attention_mask: Tensor) -> tuple[Tensor, Tensor]:
    experts, weights = [], []

    def record(module, args, output):
        values, chosen = output[0].topk(module.top_k, dim=1)
        weights.append(values.softmax(dim=1))
        experts.append(chosen)

    handles = [block.gate.register_forward_hook(record) for block in moe_blocks(model)]
    try:
        with torch.no_grad():
            model(input_ids=input_ids, attention_mask=attention_mask)
    finally:
        for handle in handles:
            handle.remove()
    real = attention_mask.bool().flatten()
    return torch.stack(experts)[:, real], torch.stack(weights)[:, real]
