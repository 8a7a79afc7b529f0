# loses: test-scan-selective keeps 4
# One chunk, whatever was asked.

# %% scan-selective
def selective_scan(
    x: Tensor, delta: Tensor, A: Tensor, B: Tensor, C: Tensor, D: Tensor, chunk: int, h0: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    if chunk < 1:
        raise ValueError(f"chunk must be at least 1, not {chunk}")
    chunk = max(1, x.shape[1])
    y = torch.empty_like(x)
    state = x.new_zeros(x.shape[0], *A.shape) if h0 is None else h0
    for start in range(0, x.shape[1], chunk):
        part = slice(start, start + chunk)
        a, b = discretise(delta[:, part], A, B[:, part], "mamba")
        left, h = parallel_scan(a, b * x[:, part, :, None])
        h = h + left * state[:, None]
        y[:, part] = (h * C[:, part, None, :]).sum(dim=-1) + D * x[:, part]
        state = h[:, -1].clone()
    return y, state
