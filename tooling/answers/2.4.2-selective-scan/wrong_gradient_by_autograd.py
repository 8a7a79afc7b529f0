# loses: test-scan-backward
# Leaves it to autograd, by the tree.

# %% scan-backward
def scan_backward(a, h, grad, h0=None):
    with torch.enable_grad():
        start = torch.zeros_like(h[:, 0]) if h0 is None else h0
        b = h - a * torch.cat([start[:, None], h[:, :-1]], dim=1)
        leaves = [t.detach().clone().requires_grad_() for t in (a, b, start)]
        left, states = parallel_scan(*leaves[:2])
        return torch.autograd.grad(states + left * leaves[2][:, None], leaves, grad)
