# loses: test-dora-decompose, test-dora-factor, test-dora-layer keeps 1, test-dora-merge, test-dora-drift, test-dora-module
# Norms along the outputs. For square layers every shape fits.
# %% dora-decompose
def decompose(weight: Tensor) -> tuple[Tensor, Tensor]:
    magnitude = torch.linalg.vector_norm(weight, dim=0)
    return magnitude, weight / magnitude.masked_fill(magnitude == 0, 1)
# %% dora-layer
class DoRALinear(nn.Module):
    def __init__(self, base: nn.Linear, lora_A: nn.Parameter, lora_B: nn.Parameter, alpha: float,
                 rank_stabilized: bool = False) -> None:
        super().__init__()
        base.requires_grad_(False)
        self.base = base
        self.lora_A = lora_A
        self.lora_B = lora_B
        self.lora_magnitude = nn.Parameter(decompose(base.weight)[0])
        rank = lora_A.shape[0]
        self.scaling = alpha / (math.sqrt(rank) if rank_stabilized else rank)
        self.merged = False
        self.factor = None

    def forward(self, x: Tensor) -> Tensor:
        if self.merged:
            return self.base(x)
        factor = dora_factor(self.base.weight, self.lora_A, self.lora_B, self.scaling, self.lora_magnitude)
        h = F.linear(x, self.base.weight) + self.scaling * (x @ self.lora_A.T @ self.lora_B.T)
        return factor * h if self.base.bias is None else factor * h + self.base.bias
