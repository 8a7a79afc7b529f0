# loses: test-reduce-sequential keeps 3
# The right tree in the right order, but neighbours' slots lie 32 words apart: all threads of a warp queue for few banks.

# %% reduce-sequential
@cuda.jit
def sequential_sum(x, partials):
    tile = cuda.shared.array(MAX_THREADS, float32)
    t = cuda.threadIdx.x
    i = cuda.grid(1)
    tile[t % 8 * 32 + t // 8] = x[i] if i < x.size else float32(0)
    cuda.syncthreads()
    s = cuda.blockDim.x // 2
    while s > 0:
        if t < s:
            tile[t % 8 * 32 + t // 8] += tile[(t + s) % 8 * 32 + (t + s) // 8]
        cuda.syncthreads()
        s //= 2
    if t == 0:
        partials[cuda.blockIdx.x] = tile[0]
