# loses: test-moe-affinity keeps 2
# Divides by tokens where there are T * k places.

# %% moe-affinity
def affinity(experts: Tensor, features: Tensor, num_experts: int, prior: float = 1.0) -> Tensor:
    places = nn.functional.one_hot(experts, num_experts).sum(dim=1).double()
    found = features.T.double() @ places
    expected = found.sum(dim=1, keepdim=True) * places.sum(dim=0) / len(experts)
    return ((found + prior) / (expected + prior)).log2()


def overlap(experts: Tensor, prompts: Tensor, num_prompts: int, num_experts: int) -> Tensor:
    pairs = (prompts[:, None] * num_experts + experts).flatten()
    table = pairs.bincount(minlength=num_prompts * num_experts).reshape(num_prompts, num_experts).double()
    share = table / table.sum(dim=1, keepdim=True)
    return torch.minimum(share[:, None], share).sum(dim=2)
