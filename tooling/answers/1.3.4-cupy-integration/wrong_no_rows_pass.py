# loses: test-cupy-standardize keeps 2
# A table without rows is not refused.

# %% cupy-standardize
def standardize(x: Any) -> Any:
    if x.shape[0] == 0:
        return x
    xp = array_module(x)
    wide = x.astype(xp.float64)
    constant = x.max(axis=0) == x.min(axis=0)
    divisor = xp.where(constant, 1.0, wide.std(axis=0))
    return xp.where(constant, 0.0, (wide - wide.mean(axis=0)) / divisor).astype(x.dtype)
