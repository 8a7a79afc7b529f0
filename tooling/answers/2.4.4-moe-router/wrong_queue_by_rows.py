# loses: test-router-capacity keeps 1
# A token's second choice comes before the first choices of later tokens.

# %% router-capacity
def expert_capacity(tokens: int, k: int, num_experts: int, factor: float) -> int:
    return math.ceil(factor * tokens * k / num_experts)


def keep_within(indices: Tensor, num_experts: int, capacity: int) -> Tensor:
    tokens, k = indices.shape
    arrivals = nn.functional.one_hot(indices.flatten(), num_experts)
    number = (arrivals.cumsum(dim=0) * arrivals).sum(dim=1)
    return (number <= capacity).reshape(tokens, k)
