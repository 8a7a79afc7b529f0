# loses: test-scan-loop
# h0 is set to zero in place, and then started from.

# %% scan-loop
def sequential_scan(a: Tensor, b: Tensor, h0: Tensor | None = None) -> Tensor:
    h = torch.empty_like(b)
    state = 0.0 if h0 is None else h0.zero_()
    for t in range(b.shape[1]):
        state = a[:, t] * state + b[:, t]
        h[:, t] = state
    return h
