# loses: test-cupy-fill, test-cupy-preprocess keeps 2
# A mask is an index: the length of each result is asked of the device, column by column.

# %% cupy-fill
def fill_missing(x: Any) -> Any:
    xp = array_module(x)
    result = xp.zeros_like(x)
    for c in range(x.shape[1]):
        column = x[:, c]
        known = column[~xp.isnan(column)]
        mean = known.mean(dtype=xp.float64).astype(x.dtype) if known.size else 0
        result[:, c] = xp.where(xp.isnan(column), mean, column)
    return result
