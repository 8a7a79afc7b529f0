# loses: test-reduce-grid-stride keeps 3
# Each block adds the right elements, but neighbouring threads read elements that lie far apart.

# %% reduce-grid-stride
@cuda.jit
def grid_stride_sum(x, partials):
    tile = cuda.shared.array(MAX_THREADS, float32)
    t = cuda.threadIdx.x
    n = cuda.blockDim.x
    mine = t
    if n >= 64:
        mine = t % 8 * (n // 8) + t // 8
    total = float32(0)
    for i in range(cuda.blockIdx.x * n + mine, x.size, cuda.gridsize(1)):
        total += x[i]
    tile[t] = total
    cuda.syncthreads()
    s = n // 2
    while s > 0:
        if t < s:
            tile[t] += tile[t + s]
        cuda.syncthreads()
        s //= 2
    if t == 0:
        partials[cuda.blockIdx.x] = tile[0]
