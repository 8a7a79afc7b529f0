# loses: test-hist-shared
# Global atomics under the name of the shared kernel.

# %% hist-shared
@cuda.jit
def shared_histogram(keys, counts):
    for i in range(cuda.grid(1), keys.size, cuda.gridsize(1)):
        k = keys[i]
        if 0 <= k < counts.size:
            cuda.atomic.add(counts, k, 1)
