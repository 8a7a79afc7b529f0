# loses: test-dpo-reference, test-dpo-module keeps 3
# The policy is frozen before it is copied, and nothing trains any more.

# %% dpo-reference
def make_reference(policy: nn.Module) -> nn.Module:
    policy.requires_grad_(False).eval()
    return copy.deepcopy(policy)
