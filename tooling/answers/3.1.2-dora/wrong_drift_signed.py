# loses: test-dora-drift
# Changes of length with their sign: what grows and what shrinks cancels.
# %% dora-drift
def drift(before: Tensor, after: Tensor) -> tuple[float, float]:
    (old_length, old), (new_length, new) = decompose(before), decompose(after)
    return (new_length - old_length).mean().item(), (1 - (old * new).sum(dim=1)).mean().item()
