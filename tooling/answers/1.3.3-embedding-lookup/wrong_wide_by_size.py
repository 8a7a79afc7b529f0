# loses: test-embed-lookup keeps 2, test-embed-function keeps 1
# Common mistake 3: words of 8 bytes wherever the whole table holds an even number of elements, also over the ends of rows.

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
    out = torch.empty(tokens.numel(), table.shape[1], dtype=torch.float32, device=table.device)
    fits = table.numel() % 2 == 0 and source.data_ptr() % 8 == 0
    word = torch.int64 if fits else torch.int32
    arrays = [on_device(a) for a in (tokens.reshape(-1), source.view(-1).view(word).view(len(table), -1), out.view(-1).view(word).view(len(out), -1))]
    if out.numel():
        lookup_by_element[math.ceil(arrays[2].size / THREADS), THREADS](*arrays)
    return out.view(*tokens.shape, table.shape[1])
