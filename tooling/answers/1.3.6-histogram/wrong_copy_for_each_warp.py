# loses: test-hist-spread keeps 4
# The copies go by warp, so the 32 lanes of a warp still meet in one slot. Common mistake 6.

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
    mine = t // 32 % COPIES * pitch
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
