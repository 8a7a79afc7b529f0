# loses: test-embed-segments, test-embed-function keeps 2
# Padding's positions are cut out before the sort, so those that are left are numbered anew.

# %% embed-segments
def segments(tokens: torch.Tensor, padding: int | None) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    flat = tokens.reshape(-1).long()
    if padding is not None:
        flat = flat[flat != padding]
    values, order = torch.sort(flat, stable=True)
    ids, counts = torch.unique_consecutive(values, return_counts=True)
    starts = torch.zeros(ids.numel() + 1, dtype=torch.int64, device=ids.device)
    starts[1:] = counts.cumsum(0)
    return ids, starts, order
