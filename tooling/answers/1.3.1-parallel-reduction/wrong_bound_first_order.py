# loses: test-reduce-bound
# k U for gamma_k, as most blog posts have it: good enough for a few additions, no guarantee for millions.

# %% reduce-bound
def rounding_bound(x: np.ndarray, additions: int) -> float:
    if additions * U >= 1:
        raise ValueError("no bound")
    return float(additions * U * np.abs(x).sum(dtype=np.float64))
