# loses: test-scan-kernel keeps 3
# A contiguous stretch for each thread, read twice: uncoalesced.

# %% scan-kernel
@cuda.jit
def scan_rows(a, b, h):
    tile_a = cuda.shared.array(MAX_THREADS, float32)
    tile_b = cuda.shared.array(MAX_THREADS, float32)
    t, row, threads, n = cuda.threadIdx.x, cuda.blockIdx.x, cuda.blockDim.x, a.shape[1]
    each = (n + threads - 1) // threads
    mine_a, mine_b = float32(1), float32(0)
    for i in range(t * each, min(n, (t + 1) * each)):
        mine_b = a[row, i] * mine_b + b[row, i]
        mine_a = mine_a * a[row, i]
    tile_a[t] = mine_a
    tile_b[t] = mine_b
    cuda.syncthreads()
    state = float32(0)
    for k in range(t):
        state = tile_a[k] * state + tile_b[k]
    for i in range(t * each, min(n, (t + 1) * each)):
        state = a[row, i] * state + b[row, i]
        h[row, i] = state
