# loses: test-hist-select
# The counts of the last round are still there in the next.

# %% hist-select
def kth_largest(x: np.ndarray, k: int) -> float:
    if not 1 <= k <= x.size:
        raise ValueError(f"k must be in 1 to {x.size}, not {k}")
    words = cuda.to_device(np.ascontiguousarray(x).view(np.int32))
    keys = cuda.device_array(x.size, np.int32)
    prefix = 0
    counts = cuda.to_device(np.zeros(RADIX, np.int32))
    for shift in (24, 16, 8, 0):
        digits[blocks_for(x.size), THREADS](words, shift, prefix, keys)
        spread_histogram[blocks_for(x.size), THREADS](keys, counts)
        found = counts.copy_to_host()
        for digit in reversed(range(RADIX)):
            if found[digit] >= k:
                break
            k -= int(found[digit])
        prefix = prefix * RADIX + digit
    return float(np.array(prefix, np.int32).view(np.float32))
