# loses: test-mambaft-layer keeps 2, test-mambaft-adapt keeps 3
# `weight` has the update in it, but no gradient.

# %% mambaft-layer
class LoRALinear(nn.Module):

    def __init__(self, base: nn.Linear, rank: int, alpha: float) -> None:
        super().__init__()
        if rank < 1:
            raise ValueError("the rank must be at least 1")
        self.base, self.scaling = base.requires_grad_(False), alpha / rank
        d_out, d_in = base.weight.shape
        bound = 1 / math.sqrt(d_in)
        self.lora_A = nn.Parameter(base.weight.new_empty(rank, d_in).uniform_(-bound, bound))
        self.lora_B = nn.Parameter(base.weight.new_zeros(d_out, rank))

    @property
    def weight(self) -> Tensor:
        return (self.base.weight + self.scaling * self.lora_B @ self.lora_A).detach()

    @property
    def bias(self) -> Tensor | None:
        return self.base.bias

    def forward(self, x: Tensor) -> Tensor:
        return self.base(x) + self.scaling * (x @ self.lora_A.T @ self.lora_B.T)
