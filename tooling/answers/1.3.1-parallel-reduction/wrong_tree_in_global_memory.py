# loses: test-reduce-shared
# No tile at all: the tree runs in x itself, as in exercise 3, and destroys it.

# %% reduce-shared
@cuda.jit
def shared_sum(x, partials):
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
