# loses: test-reduce-bound
# The sum first and the absolute value after it: signs cancel, and [1, -1] would have to be exact.

# %% reduce-bound
def rounding_bound(x: np.ndarray, additions: int) -> float:
    if additions * U >= 1:
        raise ValueError("no bound")
    return float(additions * U / (1 - additions * U) * abs(x.sum(dtype=np.float64)))
