# loses: test-reduce-interleaved, test-reduce-shared, test-reduce-sequential, test-reduce-grid-stride
# "A warp runs in step anyway": true of no GPU since 2017, and never of a block of several warps.

# %% reduce-interleaved
@cuda.jit
def interleaved_sum(work, partials):
    t = cuda.threadIdx.x
    i = cuda.grid(1)
    s = 1
    while s < cuda.blockDim.x:
        if t % (2 * s) == 0 and i + s < work.size:
            work[i] += work[i + s]
        s *= 2
    if t == 0:
        partials[cuda.blockIdx.x] = work[i] if i < work.size else 0

# %% reduce-shared
@cuda.jit
def shared_sum(x, partials):
    tile = cuda.shared.array(MAX_THREADS, float32)
    t = cuda.threadIdx.x
    i = cuda.grid(1)
    tile[t] = x[i] if i < x.size else float32(0)
    cuda.syncthreads()
    s = 1
    while s < cuda.blockDim.x:
        if t % (2 * s) == 0:
            tile[t] += tile[t + s]
        s *= 2
    if t == 0:
        partials[cuda.blockIdx.x] = tile[0]

# %% reduce-sequential
@cuda.jit
def sequential_sum(x, partials):
    tile = cuda.shared.array(MAX_THREADS, float32)
    t = cuda.threadIdx.x
    i = cuda.grid(1)
    tile[t] = x[i] if i < x.size else float32(0)
    cuda.syncthreads()
    s = cuda.blockDim.x // 2
    while s > 0:
        if t < s:
            tile[t] += tile[t + s]
        s //= 2
    if t == 0:
        partials[cuda.blockIdx.x] = tile[0]

# %% reduce-grid-stride
@cuda.jit
def grid_stride_sum(x, partials):
    tile = cuda.shared.array(MAX_THREADS, float32)
    t = cuda.threadIdx.x
    total = float32(0)
    for i in range(cuda.grid(1), x.size, cuda.gridsize(1)):
        total += x[i]
    tile[t] = total
    cuda.syncthreads()
    s = cuda.blockDim.x // 2
    while s > 0:
        if t < s:
            tile[t] += tile[t + s]
        s //= 2
    if t == 0:
        partials[cuda.blockIdx.x] = tile[0]
