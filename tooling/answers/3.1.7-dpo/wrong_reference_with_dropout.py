# loses: test-dpo-reference
# A frozen copy in the policy's mode, dropout and all.

# %% dpo-reference
def make_reference(policy: nn.Module) -> nn.Module:
    return copy.deepcopy(policy).requires_grad_(False)
