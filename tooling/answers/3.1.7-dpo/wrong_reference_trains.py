# loses: test-dpo-reference
# A copy that still wants gradients.

# %% dpo-reference
def make_reference(policy: nn.Module) -> nn.Module:
    return copy.deepcopy(policy).eval()
