# loses: test-profiling-fast, test-profiling-all
# The buffer is float64: the hidden layer is promoted and cast back.

# %% profiling-fast
class Fast(Slow):

    def __init__(self, features: int, hidden: int, classes: int) -> None:
        super().__init__(features, hidden, classes)
        wave = torch.arange(hidden, dtype=torch.float64).mul(0.1).sin()
        self.register_buffer("wave", wave, persistent=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head((torch.relu(self.encoder(x)) * self.wave).to(x.dtype))
