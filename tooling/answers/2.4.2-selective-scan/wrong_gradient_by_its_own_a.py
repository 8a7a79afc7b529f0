# loses: test-scan-backward
# g_t receives through a_t in place of a_(t+1). Common mistake 4.

# %% scan-backward
def scan_backward(a: Tensor, h: Tensor, grad: Tensor, h0: Tensor | None = None) -> tuple[Tensor, Tensor, Tensor]:
    after = a
    g = parallel_scan(after.flip(1), grad.flip(1))[1].flip(1)
    first = torch.zeros_like(h[:, 0]) if h0 is None else h0
    before = torch.cat([first[:, None], h[:, :-1]], dim=1)
    return g * before, g, a[:, 0] * g[:, 0]
