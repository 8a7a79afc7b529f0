# loses: test-simpo-memory
# A reference that is the policy itself is counted.

# %% simpo-memory
def training_bytes(policy: nn.Module, reference: nn.Module | None = None) -> dict[str, int]:
    trained = sum(p.nbytes for p in policy.parameters() if p.requires_grad)
    own = {p.data_ptr() for p in policy.parameters()}
    kinds = {
        "weights": sum(p.nbytes for p in policy.parameters()),
        "gradients": trained,
        "adam": 2 * trained,
        "reference": sum(p.nbytes for p in reference.parameters()) if reference else 0,
    }
    return kinds | {"total": sum(kinds.values())}
