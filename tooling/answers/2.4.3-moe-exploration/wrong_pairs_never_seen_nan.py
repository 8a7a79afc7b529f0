# loses: test-moe-information, test-moe-permutation, test-moe-module
# All pairs enter the sum: 0 times the logarithm of 0 is NaN.

# %% moe-information
def mutual_information(experts: Tensor, groups: Tensor, num_groups: int, num_experts: int) -> float:
    pairs = (groups[:, None] * num_experts + experts).flatten()
    joint = pairs.bincount(minlength=num_groups * num_experts).reshape(num_groups, num_experts).double() / len(pairs)
    apart = joint.sum(dim=1, keepdim=True) * joint.sum(dim=0, keepdim=True)
    return (joint * (joint / apart).log2()).sum().item()
