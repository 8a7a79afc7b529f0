# loses: test-hist-global keeps 1
# A plain += in place of the atomic: additions of threads that meet are lost. Common mistake 1.

# %% hist-global
@cuda.jit
def global_histogram(keys, counts):
    for i in range(cuda.grid(1), keys.size, cuda.gridsize(1)):
        k = keys[i]
        if 0 <= k < counts.size:
            counts[k] += 1
