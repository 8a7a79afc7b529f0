# loses: test-cupy-rows keeps 2
# Thread 0 does the row alone.

# %% cupy-rows
@cuda.jit
def rows_kernel(x, out):
    tile = cuda.shared.array(MAX_THREADS, float32)
    row, t, columns = cuda.blockIdx.x, cuda.threadIdx.x, x.shape[1]
    mean, scale = float32(0), float32(0)
    for which in range(2):
        total = float32(0)
        for j in range(columns if t == 0 else 0):
            d = x[row, j] - mean
            total += d if which == 0 else d * d
        tile[t] = total
        cuda.syncthreads()
        half = cuda.blockDim.x // 2
        while half > 0:
            if t < half:
                tile[t] += tile[t + half]
            cuda.syncthreads()
            half //= 2
        if which == 0:
            mean = tile[0] / float32(columns)
        else:
            scale = float32(1 / math.sqrt(tile[0] / float32(columns) + float32(EPS)))
        cuda.syncthreads()
    for j in range(columns if t == 0 else 0):
        out[row, j] = (x[row, j] - mean) * scale
