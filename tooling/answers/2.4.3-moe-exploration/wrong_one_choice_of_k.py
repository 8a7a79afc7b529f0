# loses: test-moe-count keeps 3
# A token is taken to ask one expert, T * k times with replacement.

# %% moe-count
def count_parameters(model: nn.Module) -> dict[str, int]:
    routed = idle = 0
    for block in moe_blocks(model):
        size = sum(parameter.numel() for parameter in block.experts.parameters())
        routed += size
        idle += size // block.experts.num_experts * (block.experts.num_experts - block.gate.top_k)
    total = sum(parameter.numel() for parameter in model.parameters())
    return {"total": total, "routed": routed, "active": total - idle}


def expected_experts(num_experts: int, k: int, tokens: int) -> float:
    return num_experts * (1 - (1 - 1 / num_experts) ** (k * tokens))
