# loses: test-hist-spread
# Every copy is flushed by itself: eight times the global atomics.

# %% hist-spread
@cuda.jit
def spread_histogram(keys, counts):
    tile = cuda.shared.array(SLOTS, int32)
    t = cuda.threadIdx.x
    bins = counts.size
    pitch = bins | 1
    for slot in range(t, COPIES * pitch, cuda.blockDim.x):
        tile[slot] = 0
    cuda.syncthreads()
    mine = t % COPIES * pitch
    for i in range(cuda.grid(1), keys.size, cuda.gridsize(1)):
        k = keys[i]
        if 0 <= k < bins:
            cuda.atomic.add(tile, mine + k, 1)
    cuda.syncthreads()
    for b in range(t, bins, cuda.blockDim.x):
        for copy in range(COPIES):
            if tile[copy * pitch + b] != 0:
                cuda.atomic.add(counts, b, tile[copy * pitch + b])
