# loses: test-simpo-memory
# One moment for each number, as momentum has; Adam has two.

# %% simpo-memory
def training_bytes(policy: nn.Module, reference: nn.Module | None = None) -> dict[str, int]:
    trained = sum(p.nbytes for p in policy.parameters() if p.requires_grad)
    own = {p.data_ptr() for p in policy.parameters()}
    kinds = {
        "weights": sum(p.nbytes for p in policy.parameters()),
        "gradients": trained,
        "adam": trained,
        "reference": sum(p.nbytes for p in reference.parameters() if p.data_ptr() not in own) if reference else 0,
    }
    return kinds | {"total": sum(kinds.values())}
