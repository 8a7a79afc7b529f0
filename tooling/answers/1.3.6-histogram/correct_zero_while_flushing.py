# The flush leaves zeros for the next window, with three barriers; a tile cleared by all of the pitch; a signed guess in float64.

# %% hist-bins
@cuda.jit
def find_bins(x, edges, keys):
    i = cuda.grid(1)
    if i < x.size:
        v, last = x[i], edges.size - 2
        if not (v >= edges[0] and v <= edges[last + 1]):
            keys[i] = -1
            return
        width = (float(edges[last + 1]) - float(edges[0])) / (last + 1)
        k = max(0, min(last, int((float(v) - float(edges[0])) / width)))
        below = k > 0 and v < edges[k]
        above = k < last and v >= edges[k + 1]
        keys[i] = k - int(below) + int(above)

# %% hist-shared
@cuda.jit
def shared_histogram(keys, counts):
    tile = cuda.shared.array(MAX_BINS, int32)
    t = cuda.threadIdx.x
    for b in range(t, MAX_BINS, cuda.blockDim.x):
        tile[b] = 0
    cuda.syncthreads()
    for window in range((counts.size + MAX_BINS - 1) // MAX_BINS):
        for i in range(cuda.grid(1), keys.size, cuda.gridsize(1)):
            k = keys[i]
            if k >= 0 and k < counts.size and k // MAX_BINS == window:
                cuda.atomic.add(tile, k % MAX_BINS, 1)
        cuda.syncthreads()
        for b in range(t, MAX_BINS, cuda.blockDim.x):
            mine = tile[b]
            if mine > 0:
                cuda.atomic.add(counts, window * MAX_BINS + b, mine)
                tile[b] = 0
        cuda.syncthreads()

# %% hist-spread
@cuda.jit
def spread_histogram(keys, counts):
    tile = cuda.shared.array((COPIES, SPREAD_BINS + 1), int32)
    t = cuda.threadIdx.x
    for copy in range(COPIES):
        for b in range(t, counts.size, cuda.blockDim.x):
            tile[copy, b] = 0
    cuda.syncthreads()
    for i in range(cuda.grid(1), keys.size, cuda.gridsize(1)):
        k = keys[i]
        if 0 <= k < counts.size:
            cuda.atomic.add(tile, (t % COPIES, k), 1)
    cuda.syncthreads()
    for b in range(t, counts.size, cuda.blockDim.x):
        total = 0
        for copy in range(COPIES):
            total += tile[copy, b]
        if total > 0:
            cuda.atomic.add(counts, b, total)
