# loses: test-mambaft-layer keeps 4, test-mambaft-adapt keeps 2
# B starts at random, so the first output is not the base layer's.

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
        self.lora_B = nn.Parameter(base.weight.new_empty(d_out, rank).normal_())

    @property
    def weight(self) -> Tensor:
        return self.base.weight + self.scaling * self.lora_B @ self.lora_A

    @property
    def bias(self) -> Tensor | None:
        return self.base.bias

    def forward(self, x: Tensor) -> Tensor:
        return self.base(x) + self.scaling * (x @ self.lora_A.T @ self.lora_B.T)
