# loses: test-hist-global
# One thread for each key and no stride: a grid smaller than the data leaves keys uncounted.

# %% hist-global
@cuda.jit
def global_histogram(keys, counts):
    i = cuda.grid(1)
    if i < keys.size:
        k = keys[i]
        if 0 <= k < counts.size:
            cuda.atomic.add(counts, k, 1)
