# loses: test-profiling-fast, test-profiling-all
# The wave is a plain attribute and stays behind when the module moves.

# %% profiling-fast
class Fast(Slow):

    def __init__(self, features: int, hidden: int, classes: int) -> None:
        super().__init__(features, hidden, classes)
        wave = torch.arange(hidden, dtype=torch.float64).mul(0.1).sin()
        self.wave = wave.to(self.head.weight.dtype)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(torch.relu(self.encoder(x)) * self.wave)
