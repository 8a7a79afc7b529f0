# loses: test-cupy-standardize, test-cupy-preprocess
# Everything is computed in float32.

# %% cupy-standardize
def standardize(x: Any) -> Any:
    if x.shape[0] == 0:
        raise ValueError("a table without rows has no mean")
    xp = array_module(x)
    wide = x.astype(xp.float32)
    constant = x.max(axis=0) == x.min(axis=0)
    divisor = xp.where(constant, 1.0, wide.std(axis=0))
    return xp.where(constant, 0.0, (wide - wide.mean(axis=0)) / divisor).astype(x.dtype)
