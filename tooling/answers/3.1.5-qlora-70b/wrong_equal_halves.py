# loses: test-qlora-codebook, test-integration-qlora
# Sixteen even quantiles: there is no code for 0.

# %% qlora-codebook
def normal_codebook(bits: int = 4, outermost: float = 0.9677083) -> Tensor:
    if not 2 <= bits <= 8:
        raise ValueError(f"bits must be from 2 to 8, not {bits}")
    if not 0.5 < outermost < 1:
        raise ValueError(f"outermost must lie between 0.5 and 1, not {outermost}")
    half = 2 ** (bits - 1)
    positive = torch.linspace(outermost, 0.5, half + 1, dtype=torch.float64)[:-1]
    negative = positive
    values = torch.cat([torch.special.ndtri(positive), -torch.special.ndtri(negative)]).sort().values
    return values / values.max()
