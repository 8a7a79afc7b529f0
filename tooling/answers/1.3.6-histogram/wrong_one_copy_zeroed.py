# loses: test-hist-spread, test-hist-select
# Only the first copy is zeroed; kth_largest counts with the same kernel.

# %% hist-spread
@cuda.jit
def spread_histogram(keys, counts):
    tile = cuda.shared.array(SLOTS, int32)
    t = cuda.threadIdx.x
    bins = counts.size
    pitch = bins | 1
    for slot in range(t, pitch, cuda.blockDim.x):
        tile[slot] = 0
    cuda.syncthreads()
    mine = t % COPIES * pitch
    for i in range(cuda.grid(1), keys.size, cuda.gridsize(1)):
        k = keys[i]
        if 0 <= k < bins:
            cuda.atomic.add(tile, mine + k, 1)
    cuda.syncthreads()
    for b in range(t, bins, cuda.blockDim.x):
        total = 0
        for copy in range(COPIES):
            total += tile[copy * pitch + b]
        if total != 0:
            cuda.atomic.add(counts, b, total)
