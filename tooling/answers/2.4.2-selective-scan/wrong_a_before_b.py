# loses: test-scan-kernel, test-scan-module
# a is combined first, so that b meets the new a.

# %% scan-kernel
@cuda.jit
def scan_rows(a, b, h):
    tile_a = cuda.shared.array(MAX_THREADS, float32)
    tile_b = cuda.shared.array(MAX_THREADS, float32)
    t, row, threads = cuda.threadIdx.x, cuda.blockIdx.x, cuda.blockDim.x
    carry = float32(0)
    for first in range(0, a.shape[1], threads):
        i = first + t
        inside = i < a.shape[1]
        mine_a = a[row, i] if inside else float32(1)
        mine_b = b[row, i] if inside else float32(0)
        s = 1
        while s < threads:
            tile_a[t] = mine_a
            tile_b[t] = mine_b
            cuda.syncthreads()
            if t >= s:
                mine_a *= tile_a[t - s]
                mine_b += mine_a * tile_b[t - s]
            cuda.syncthreads()
            s *= 2
        state = mine_a * carry + mine_b
        if inside:
            h[row, i] = state
        tile_b[t] = state
        cuda.syncthreads()
        carry = tile_b[threads - 1]
        cuda.syncthreads()
