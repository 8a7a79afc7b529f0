# loses: test-hist-select
# Launches the kernels once a round on the first digits, for show, and lets NumPy find the answer.

# %% hist-select
def kth_largest(x: np.ndarray, k: int) -> float:
    if not 1 <= k <= x.size:
        raise ValueError("no such k")
    words, keys = cuda.to_device(x[:1].view(np.int32)), cuda.device_array(1, np.int32)
    counts = cuda.to_device(np.zeros(RADIX, np.int32))
    for shift in (24, 16, 8, 0):
        digits[1, 32](words, shift, 0, keys)
        spread_histogram[1, 32](keys, counts)
    return float(np.partition(np.abs(x), x.size - k)[x.size - k])
