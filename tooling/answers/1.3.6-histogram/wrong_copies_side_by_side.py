# loses: test-hist-spread keeps 5
# The copies of a bin are neighbours, so that the merge of 32 bins meets in few banks.

# %% hist-spread
@cuda.jit
def spread_histogram(keys, counts):
    tile = cuda.shared.array(SLOTS, int32)
    t = cuda.threadIdx.x
    bins = counts.size
    for slot in range(t, COPIES * bins, cuda.blockDim.x):
        tile[slot] = 0
    cuda.syncthreads()
    mine = t % COPIES
    for i in range(cuda.grid(1), keys.size, cuda.gridsize(1)):
        k = keys[i]
        if 0 <= k < bins:
            cuda.atomic.add(tile, k * COPIES + mine, 1)
    cuda.syncthreads()
    for b in range(t, bins, cuda.blockDim.x):
        total = 0
        for copy in range(COPIES):
            total += tile[b * COPIES + copy]
        if total != 0:
            cuda.atomic.add(counts, b, total)
