# loses: test-scan-kernel keeps 4
# Each thread goes through all of the tile before it: no rounds, and quadratic work.

# %% scan-kernel
@cuda.jit
def scan_rows(a, b, h):
    tile_a = cuda.shared.array(MAX_THREADS, float32)
    tile_b = cuda.shared.array(MAX_THREADS, float32)
    t, row, threads = cuda.threadIdx.x, cuda.blockIdx.x, cuda.blockDim.x
    carry = float32(0)
    for first in range(0, a.shape[1], threads):
        i = first + t
        if i < a.shape[1]:
            tile_a[t] = a[row, i]
            tile_b[t] = b[row, i]
        cuda.syncthreads()
        state = carry
        last = min(threads, a.shape[1] - first)
        for k in range(min(t + 1, last)):
            state = tile_a[k] * state + tile_b[k]
        for k in range(last):
            carry = tile_a[k] * carry + tile_b[k]
        if i < a.shape[1]:
            h[row, i] = state
        cuda.syncthreads()
