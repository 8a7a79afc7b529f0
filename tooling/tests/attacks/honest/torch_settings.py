# Changes torch's settings, and defines modules, hooks and gradients of its own.
# lab: deep

# %% first
import torch
from torch import nn

torch.manual_seed(0)
torch.set_num_threads(1)
torch.set_printoptions(precision=2)
torch.autograd.set_detect_anomaly(False)


class Twice(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        return 2 * x

    @staticmethod
    def backward(ctx, gradient):
        return 2 * gradient


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(2, 1)

    def forward(self, x):
        return Twice.apply(self.layer(x)).relu()


_net = Net()
_handle = _net.layer.register_forward_hook(lambda module, inputs, output: None)
_optimizer = torch.optim.SGD(_net.parameters(), lr=0.1)
_net(torch.ones(3, 2)).sum().backward()
_optimizer.step()
_handle.remove()
with torch.no_grad(), torch.random.fork_rng():
    print(_net, torch.randn(1).shape)
