# loses: test-embed-segments, test-embed-function keeps 2
# Padding is sorted in like any other token.

# %% embed-segments
def segments(tokens: torch.Tensor, padding: int | None) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    values, order = torch.sort(tokens.reshape(-1).long(), stable=True)
    ids, counts = torch.unique_consecutive(values, return_counts=True)
    starts = torch.zeros(ids.numel() + 1, dtype=torch.int64, device=ids.device)
    starts[1:] = counts.cumsum(0)
    return ids, starts, order
