# loses: test-hist-global keeps 3
# A contiguous chunk for each thread, as on a CPU: right counts, uncoalesced loads.

# %% hist-global
@cuda.jit
def global_histogram(keys, counts):
    chunk = (keys.size + cuda.gridsize(1) - 1) // cuda.gridsize(1)
    start = cuda.grid(1) * chunk
    for i in range(start, min(start + chunk, keys.size)):
        k = keys[i]
        if 0 <= k < counts.size:
            cuda.atomic.add(counts, k, 1)
