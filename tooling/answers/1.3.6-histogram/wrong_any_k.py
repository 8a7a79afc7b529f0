# loses: test-hist-select keeps 4
# Takes any k: for 0 the walk ends at once, above n it never should.

# %% hist-select
def kth_largest(x: np.ndarray, k: int) -> float:
    words = cuda.to_device(np.ascontiguousarray(x).view(np.int32))
    keys = cuda.device_array(x.size, np.int32)
    prefix = 0
    for shift in (24, 16, 8, 0):
        digits[blocks_for(x.size), THREADS](words, shift, prefix, keys)
        counts = cuda.to_device(np.zeros(RADIX, np.int32))
        spread_histogram[blocks_for(x.size), THREADS](keys, counts)
        found = counts.copy_to_host()
        for digit in reversed(range(RADIX)):
            if found[digit] >= k:
                break
            k -= int(found[digit])
        prefix = prefix * RADIX + digit
    return float(np.array(prefix, np.int32).view(np.float32))
