# loses: test-hist-shared keeps 4
# Every window has MAX_BINS bins, the last one too: strays above the last bin are flushed past the end.

# %% hist-shared
@cuda.jit
def shared_histogram(keys, counts):
    tile = cuda.shared.array(MAX_BINS, int32)
    t = cuda.threadIdx.x
    for first in range(0, counts.size, MAX_BINS):
        width = MAX_BINS
        for b in range(t, width, cuda.blockDim.x):
            tile[b] = 0
        cuda.syncthreads()
        for i in range(cuda.grid(1), keys.size, cuda.gridsize(1)):
            k = keys[i] - first
            if 0 <= k < width:
                cuda.atomic.add(tile, k, 1)
        cuda.syncthreads()
        for b in range(t, width, cuda.blockDim.x):
            if tile[b] != 0:
                cuda.atomic.add(counts, first + b, tile[b])
