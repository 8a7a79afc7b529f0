# loses: test-embed-segments, test-embed-function keeps 2
# Common mistake 6: the sort turns the order of equal tokens round.

# %% embed-segments
def segments(tokens: torch.Tensor, padding: int | None) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    values, order = (part.flip(0) for part in torch.sort(tokens.reshape(-1).long(), descending=True, stable=True))
    if padding is not None:
        kept = values != padding
        values, order = values[kept], order[kept]
    ids, counts = torch.unique_consecutive(values, return_counts=True)
    starts = torch.zeros(ids.numel() + 1, dtype=torch.int64, device=ids.device)
    starts[1:] = counts.cumsum(0)
    return ids, starts, order
