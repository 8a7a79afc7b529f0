# loses: test-scan-loop
# The first state is ignored.

# %% scan-loop
def sequential_scan(a: Tensor, b: Tensor, h0: Tensor | None = None) -> Tensor:
    h = torch.empty_like(b)
    state = 0.0
    for t in range(b.shape[1]):
        state = a[:, t] * state + b[:, t]
        h[:, t] = state
    return h
