# loses: test-reduce-shared
# The tile is declared and never used: the tree runs in x itself, as in exercise 3, and destroys it.

# %% reduce-shared
@cuda.jit
def shared_sum(x, partials):
    tile = cuda.shared.array(MAX_THREADS, float32)
    t = cuda.threadIdx.x
    i = cuda.grid(1)
    s = 1
    while s < cuda.blockDim.x:
        if t % (2 * s) == 0 and i + s < x.size:
            x[i] += x[i + s]
        cuda.syncthreads()
        s *= 2
    if t == 0:
        partials[cuda.blockIdx.x] = x[i] if i < x.size else 0
