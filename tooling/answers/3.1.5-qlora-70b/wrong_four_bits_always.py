# loses: test-qlora-codebook
# The size of the book does not follow from bits.

# %% qlora-codebook
def normal_codebook(bits: int = 4, outermost: float = 0.9677083) -> Tensor:
    if not 2 <= bits <= 8:
        raise ValueError(f"bits must be from 2 to 8, not {bits}")
    if not 0.5 < outermost < 1:
        raise ValueError(f"outermost must lie between 0.5 and 1, not {outermost}")
    half = 8
    positive = torch.linspace(outermost, 0.5, half + 1, dtype=torch.float64)[:-1]
    negative = torch.linspace(outermost, 0.5, half, dtype=torch.float64)[:-1]
    zero = torch.zeros(1, dtype=torch.float64)
    values = torch.cat([torch.special.ndtri(positive), zero, -torch.special.ndtri(negative)]).sort().values
    return values / values.max()
