# loses: test-router-capacity keeps 1, test-router-module keeps 1
# One queue with the room of all experts: the first ones get in, whatever they want.

# %% router-capacity
def expert_capacity(tokens: int, k: int, num_experts: int, factor: float) -> int:
    return math.ceil(factor * tokens * k / num_experts)


def keep_within(indices: Tensor, num_experts: int, capacity: int) -> Tensor:
    tokens, k = indices.shape
    arrivals = nn.functional.one_hot(indices.T.flatten(), num_experts)
    number = 1 + torch.arange(tokens * k) // num_experts
    return (number <= capacity).reshape(k, tokens).T
