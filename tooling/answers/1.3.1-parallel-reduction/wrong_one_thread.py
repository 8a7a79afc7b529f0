# loses: test-reduce-atomic, test-reduce-shared
# A loop in one thread: what one writes who has not yet let go of the CPU. In shared_sum it even keeps to the tree's order.

# %% reduce-atomic
@cuda.jit
def atomic_sum(x, out):
    if cuda.grid(1) == 0:
        for i in range(min(x.size, cuda.gridsize(1))):
            cuda.atomic.add(out, 0, x[i])

# %% reduce-shared
@cuda.jit
def shared_sum(x, partials):
    tile = cuda.shared.array(MAX_THREADS, float32)
    t = cuda.threadIdx.x
    i = cuda.grid(1)
    tile[t] = x[i] if i < x.size else float32(0)
    cuda.syncthreads()
    if t == 0:
        s = 1
        while s < cuda.blockDim.x:
            for j in range(0, cuda.blockDim.x, 2 * s):
                tile[j] += tile[j + s]
            s *= 2
    if t == 0:
        partials[cuda.blockIdx.x] = tile[0]
