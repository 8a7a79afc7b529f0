# loses: test-moe-information, test-moe-permutation, test-moe-module
# Natural logarithms: nats in place of bits.

# %% moe-information
def mutual_information(experts: Tensor, groups: Tensor, num_groups: int, num_experts: int) -> float:
    pairs = (groups[:, None] * num_experts + experts).flatten()
    joint = pairs.bincount(minlength=num_groups * num_experts).reshape(num_groups, num_experts).double() / len(pairs)
    apart = joint.sum(dim=1, keepdim=True) * joint.sum(dim=0, keepdim=True)
    seen = joint > 0
    return (joint[seen] * (joint[seen] / apart[seen]).log()).sum().item()
