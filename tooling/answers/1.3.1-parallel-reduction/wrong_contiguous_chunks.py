# loses: test-reduce-grid-stride
# Each thread adds a contiguous chunk, as one would on a CPU: common mistake 4. The total is right, the traffic is not.

# %% reduce-grid-stride
@cuda.jit
def grid_stride_sum(x, partials):
    tile = cuda.shared.array(MAX_THREADS, float32)
    t = cuda.threadIdx.x
    chunk = (x.size + cuda.gridsize(1) - 1) // cuda.gridsize(1)
    total = float32(0)
    for i in range(cuda.grid(1) * chunk, min((cuda.grid(1) + 1) * chunk, x.size)):
        total += x[i]
    tile[t] = total
    cuda.syncthreads()
    s = cuda.blockDim.x // 2
    while s > 0:
        if t < s:
            tile[t] += tile[t + s]
        cuda.syncthreads()
        s //= 2
    if t == 0:
        partials[cuda.blockIdx.x] = tile[0]
