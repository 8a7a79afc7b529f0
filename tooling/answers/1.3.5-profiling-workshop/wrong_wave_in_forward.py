# loses: test-profiling-fast, test-profiling-all
# The wave is still made at each call.

# %% profiling-fast
class Fast(Slow):

    def __init__(self, features: int, hidden: int, classes: int) -> None:
        super().__init__(features, hidden, classes)
        wave = torch.arange(hidden, dtype=torch.float64).mul(0.1).sin()
        self.register_buffer("wave", wave.to(self.head.weight.dtype), persistent=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(torch.relu(self.encoder(x)) * torch.arange(self.head.in_features, dtype=torch.float64).mul(0.1).sin().to(x.dtype))
