# loses: test-scan-kernel keeps 4
# All load, and thread 0 scans the tile alone.

# %% scan-kernel
@cuda.jit
def scan_rows(a, b, h):
    tile_a = cuda.shared.array(MAX_THREADS, float32)
    tile_b = cuda.shared.array(MAX_THREADS, float32)
    t, row, threads = cuda.threadIdx.x, cuda.blockIdx.x, cuda.blockDim.x
    state = float32(0)
    for first in range(0, a.shape[1], threads):
        i = first + t
        if i < a.shape[1]:
            tile_a[t] = a[row, i]
            tile_b[t] = b[row, i]
        cuda.syncthreads()
        if t == 0:
            for k in range( min(threads, a.shape[1] - first)):
                state = tile_a[k] * state + tile_b[k]
                tile_b[k] = state
        cuda.syncthreads()
        if i < a.shape[1]:
            h[row, i] = tile_b[t]
        cuda.syncthreads()
