# loses: test-router-capacity keeps 1
# Each column of the choice gets a buffer of its own.

# %% router-capacity
def expert_capacity(tokens: int, k: int, num_experts: int, factor: float) -> int:
    return math.ceil(factor * tokens * k / num_experts)


def keep_within(indices: Tensor, num_experts: int, capacity: int) -> Tensor:
    tokens, k = indices.shape
    arrivals = nn.functional.one_hot(indices.T.reshape(k, tokens), num_experts)
    number = (arrivals.cumsum(dim=1) * arrivals).sum(dim=2)
    return (number <= capacity).T
