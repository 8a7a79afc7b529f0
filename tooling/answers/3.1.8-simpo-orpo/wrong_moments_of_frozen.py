# loses: test-simpo-memory
# Adam's moments are counted for frozen parameters.

# %% simpo-memory
def training_bytes(policy: nn.Module, reference: nn.Module | None = None) -> dict[str, int]:
    trained = sum(p.nbytes for p in policy.parameters() if p.requires_grad)
    own = {p.data_ptr() for p in policy.parameters()}
    kinds = {
        "weights": sum(p.nbytes for p in policy.parameters()),
        "gradients": trained,
        "adam": 2 * sum(p.nbytes for p in policy.parameters()),
        "reference": sum(p.nbytes for p in reference.parameters() if p.data_ptr() not in own) if reference else 0,
    }
    return kinds | {"total": sum(kinds.values())}
