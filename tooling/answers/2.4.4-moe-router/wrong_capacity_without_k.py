# loses: test-router-capacity keeps 3
# Second choices need room as well.

# %% router-capacity
def expert_capacity(tokens: int, k: int, num_experts: int, factor: float) -> int:
    return math.ceil(factor * tokens / num_experts)


def keep_within(indices: Tensor, num_experts: int, capacity: int) -> Tensor:
    tokens, k = indices.shape
    arrivals = nn.functional.one_hot(indices.T.flatten(), num_experts)
    number = (arrivals.cumsum(dim=0) * arrivals).sum(dim=1)
    return (number <= capacity).reshape(k, tokens).T
