# loses: test-simpo-memory
# Four bytes for every number, whatever its dtype.

# %% simpo-memory
def training_bytes(policy: nn.Module, reference: nn.Module | None = None) -> dict[str, int]:
    trained = sum(4 * p.numel() for p in policy.parameters() if p.requires_grad)
    own = {p.data_ptr() for p in policy.parameters()}
    kinds = {
        "weights": sum(4 * p.numel() for p in policy.parameters()),
        "gradients": trained,
        "adam": 2 * trained,
        "reference": sum(4 * p.numel() for p in reference.parameters() if p.data_ptr() not in own) if reference else 0,
    }
    return kinds | {"total": sum(kinds.values())}
