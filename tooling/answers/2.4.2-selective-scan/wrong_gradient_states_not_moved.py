# loses: test-scan-backward keeps 1
# a_t is said to have met h_t.

# %% scan-backward
def scan_backward(a: Tensor, h: Tensor, grad: Tensor, h0: Tensor | None = None) -> tuple[Tensor, Tensor, Tensor]:
    after = torch.cat([a[:, 1:], torch.zeros_like(a[:, :1])], dim=1)
    g = parallel_scan(after.flip(1), grad.flip(1))[1].flip(1)
    first = torch.zeros_like(h[:, 0]) if h0 is None else h0
    before = torch.cat([first[:, None], h[:, :-1]], dim=1)
    return g * h, g, a[:, 0] * g[:, 0]
