# loses: test-moe-count keeps 1
# One expert a token is taken for active, whatever k is.

# %% moe-count
def count_parameters(model: nn.Module) -> dict[str, int]:
    routed = idle = 0
    for block in moe_blocks(model):
        size = sum(parameter.numel() for parameter in block.experts.parameters())
        routed += size
        idle += size // block.experts.num_experts * (block.experts.num_experts - 1)
    total = sum(parameter.numel() for parameter in model.parameters())
    return {"total": total, "routed": routed, "active": total - idle}


def expected_experts(num_experts: int, k: int, tokens: int) -> float:
    return num_experts * (1 - (1 - k / num_experts) ** tokens)
