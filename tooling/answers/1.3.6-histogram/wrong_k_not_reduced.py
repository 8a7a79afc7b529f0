# loses: test-hist-select
# k is not reduced by what lies above the digit, so that later rounds look too low. Common mistake 8.

# %% hist-select
def kth_largest(x: np.ndarray, k: int) -> float:
    if not 1 <= k <= x.size:
        raise ValueError(f"k must be in 1 to {x.size}, not {k}")
    threads = 256
    blocks = (x.size + threads - 1) // threads
    words = cuda.to_device(np.ascontiguousarray(x).view(np.int32))
    keys = cuda.device_array(x.size, np.int32)
    prefix = 0
    for shift in (24, 16, 8, 0):
        digits[blocks, threads](words, shift, prefix, keys)
        counts = cuda.to_device(np.zeros(RADIX, np.int32))
        spread_histogram[blocks, threads](keys, counts)
        found = counts.copy_to_host()
        digit, left = RADIX - 1, k
        while found[digit] < left:
            left -= int(found[digit])
            digit = max(digit - 1, 0)
            if digit == 0:
                break
        prefix = prefix * RADIX + digit
    return float(np.array(prefix, np.int32).view(np.float32))
