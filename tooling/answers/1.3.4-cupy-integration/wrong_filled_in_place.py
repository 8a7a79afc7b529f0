# loses: test-cupy-fill, test-cupy-preprocess
# The holes of the argument itself are filled.

# %% cupy-fill
def fill_missing(x: Any) -> Any:
    xp = array_module(x)
    missing = xp.isnan(x)
    total = xp.where(missing, 0, x).sum(axis=0, dtype=xp.float64)
    count = xp.maximum((~missing).sum(axis=0), 1)
    x[...] = xp.where(missing, (total / count).astype(x.dtype), x)
    return x
