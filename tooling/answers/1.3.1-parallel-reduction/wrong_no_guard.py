# loses: test-reduce-atomic, test-reduce-interleaved keeps 2, test-reduce-shared keeps 3, test-reduce-sequential keeps 3
# No guard for the end of the array: tried on a length that fills its blocks, where all is well.

# %% reduce-atomic
@cuda.jit
def atomic_sum(x, out):
    cuda.atomic.add(out, 0, x[cuda.grid(1)])

# %% reduce-interleaved
@cuda.jit
def interleaved_sum(work, partials):
    t = cuda.threadIdx.x
    i = cuda.grid(1)
    s = 1
    while s < cuda.blockDim.x:
        if t % (2 * s) == 0:
            work[i] += work[i + s]
        cuda.syncthreads()
        s *= 2
    if t == 0:
        partials[cuda.blockIdx.x] = work[i]

# %% reduce-shared
@cuda.jit
def shared_sum(x, partials):
    tile = cuda.shared.array(MAX_THREADS, float32)
    t = cuda.threadIdx.x
    tile[t] = x[cuda.grid(1)]
    cuda.syncthreads()
    s = 1
    while s < cuda.blockDim.x:
        if t % (2 * s) == 0:
            tile[t] += tile[t + s]
        cuda.syncthreads()
        s *= 2
    if t == 0:
        partials[cuda.blockIdx.x] = tile[0]

# %% reduce-sequential
@cuda.jit
def sequential_sum(x, partials):
    tile = cuda.shared.array(MAX_THREADS, float32)
    t = cuda.threadIdx.x
    tile[t] = x[cuda.grid(1)]
    cuda.syncthreads()
    s = cuda.blockDim.x // 2
    while s > 0:
        if t < s:
            tile[t] += tile[t + s]
        cuda.syncthreads()
        s //= 2
    if t == 0:
        partials[cuda.blockIdx.x] = tile[0]
