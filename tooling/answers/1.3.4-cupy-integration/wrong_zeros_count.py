# loses: test-cupy-fill, test-cupy-preprocess, test-integration-cupy
# The holes count as values in the mean.

# %% cupy-fill
def fill_missing(x: Any) -> Any:
    xp = array_module(x)
    missing = xp.isnan(x)
    total = xp.where(missing, 0, x).sum(axis=0, dtype=xp.float64)
    count = xp.maximum((x == x).sum(axis=0) * 0 + x.shape[0], 1)
    return xp.where(missing, (total / count).astype(x.dtype), x)
