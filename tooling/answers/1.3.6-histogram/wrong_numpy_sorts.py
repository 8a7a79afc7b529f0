# loses: test-hist-select
# No kernel at all: NumPy sorts.

# %% hist-select
def kth_largest(x: np.ndarray, k: int) -> float:
    if not 1 <= k <= x.size:
        raise ValueError("no such k")
    return float(np.sort(np.abs(x))[-k])
