# loses: test-dpo-reference, test-dpo-module keeps 3
# Another name for the policy. (Freezing it would stop all training, so it is not frozen either.)

# %% dpo-reference
def make_reference(policy: nn.Module) -> nn.Module:
    return policy.eval()
