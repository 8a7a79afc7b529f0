# loses: test-hist-global keeps 1
# The stride is the block's size: with several blocks keys are counted more than once.

# %% hist-global
@cuda.jit
def global_histogram(keys, counts):
    for i in range(cuda.grid(1), keys.size, cuda.blockDim.x):
        k = keys[i]
        if 0 <= k < counts.size:
            cuda.atomic.add(counts, k, 1)
