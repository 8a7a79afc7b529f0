# loses: test-scan-backward
# Time is not turned around.

# %% scan-backward
def scan_backward(a: Tensor, h: Tensor, grad: Tensor, h0: Tensor | None = None) -> tuple[Tensor, Tensor, Tensor]:
    after = torch.cat([a[:, 1:], torch.zeros_like(a[:, :1])], dim=1)
    g = parallel_scan(after, grad)[1]
    first = torch.zeros_like(h[:, 0]) if h0 is None else h0
    before = torch.cat([first[:, None], h[:, :-1]], dim=1)
    return g * before, g, a[:, 0] * g[:, 0]
