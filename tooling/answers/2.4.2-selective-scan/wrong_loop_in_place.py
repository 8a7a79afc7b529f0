# loses: test-scan-loop
# States are written over b.

# %% scan-loop
def sequential_scan(a: Tensor, b: Tensor, h0: Tensor | None = None) -> Tensor:
    h = b
    state = 0.0 if h0 is None else h0
    for t in range(b.shape[1]):
        state = a[:, t] * state + b[:, t]
        h[:, t] = state
    return h
