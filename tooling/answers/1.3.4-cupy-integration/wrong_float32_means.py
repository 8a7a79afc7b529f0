# loses: test-cupy-standardize
# The mean is rounded to float32 before it is subtracted.

# %% cupy-standardize
def standardize(x: Any) -> Any:
    if x.shape[0] == 0:
        raise ValueError("a table without rows has no mean")
    xp = array_module(x)
    wide = x.astype(xp.float64)
    constant = x.max(axis=0) == x.min(axis=0)
    divisor = xp.where(constant, 1.0, wide.std(axis=0))
    return xp.where(constant, 0.0, (wide - wide.mean(axis=0).astype(xp.float32)) / divisor).astype(x.dtype)
