# loses: test-embed-lookup, test-embed-function keeps 2
# PyTorch does the copying.

# %% embed-lookup
def lookup(tokens: torch.Tensor, table: torch.Tensor) -> torch.Tensor:
    if tokens.dtype not in (torch.int32, torch.int64):
        raise TypeError(f"tokens are int32 or int64, not {tokens.dtype}")
    if tokens.ndim != 2:
        raise ValueError(f"tokens have the shape (B, T), not {tuple(tokens.shape)}")
    bad = (tokens < 0) | (tokens >= table.shape[0])
    if bad.any():
        b, t = bad.nonzero()[0].tolist()
        raise IndexError(f"token {tokens[b, t].item()} at ({b}, {t}) is outside of a table of {table.shape[0]} rows")
    source = table.detach().contiguous()
    return source[tokens.long()]
