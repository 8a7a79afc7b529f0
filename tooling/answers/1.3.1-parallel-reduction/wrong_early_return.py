# loses: test-reduce-shared keeps 3, test-reduce-sequential keeps 3
# Threads past the end return at once, as in an element-wise kernel; their slots stay garbage and they miss the barriers:
# common mistake 3.

# %% reduce-shared
@cuda.jit
def shared_sum(x, partials):
    tile = cuda.shared.array(MAX_THREADS, float32)
    t = cuda.threadIdx.x
    i = cuda.grid(1)
    if i >= x.size:
        return
    tile[t] = x[i]
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
    i = cuda.grid(1)
    if i >= x.size:
        return
    tile[t] = x[i]
    cuda.syncthreads()
    s = cuda.blockDim.x // 2
    while s > 0:
        if t < s:
            tile[t] += tile[t + s]
        cuda.syncthreads()
        s //= 2
    if t == 0:
        partials[cuda.blockIdx.x] = tile[0]
