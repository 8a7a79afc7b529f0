# loses: test-reduce-grid-stride
# One thread adds up the whole tile: the tree looked like too much trouble after the loop. Its rounding error is that of a
# running sum, and all others wait.

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
    if t == 0:
        total = float32(0)
        for j in range(cuda.blockDim.x):
            total += tile[j]
        partials[cuda.blockIdx.x] = total
