# loses: test-hist-shared
# Flushes bins that the block has not met: right counts, and a global atomic for nothing.

# %% hist-shared
@cuda.jit
def shared_histogram(keys, counts):
    tile = cuda.shared.array(MAX_BINS, int32)
    t = cuda.threadIdx.x
    for first in range(0, counts.size, MAX_BINS):
        width = min(MAX_BINS, counts.size - first)
        for b in range(t, width, cuda.blockDim.x):
            tile[b] = 0
        cuda.syncthreads()
        for i in range(cuda.grid(1), keys.size, cuda.gridsize(1)):
            k = keys[i] - first
            if 0 <= k < width:
                cuda.atomic.add(tile, k, 1)
        cuda.syncthreads()
        for b in range(t, width, cuda.blockDim.x):
            cuda.atomic.add(counts, first + b, tile[b])
