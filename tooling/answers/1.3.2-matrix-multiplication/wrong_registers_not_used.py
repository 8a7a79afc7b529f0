# loses: test-matmul-register keeps 4
# Both words are read from shared memory for every product: two loads each, as without registers.

# %% matmul-register
@cuda.jit
def register_matmul(a, b, c):
    tile_a = cuda.shared.array((BLOCK, TILE), float32)
    tile_b = cuda.shared.array((TILE, PADDED), float32)
    sums = cuda.local.array((MICRO, MICRO), float32)
    x, y = cuda.threadIdx.x, cuda.threadIdx.y
    top, side = cuda.blockIdx.y * BLOCK + y, cuda.blockIdx.x * BLOCK + x
    m, n, k = c.shape[0], c.shape[1], a.shape[1]
    for i in range(MICRO):
        for j in range(MICRO):
            sums[i, j] = 0
    for first in range(0, k, TILE):
        for i in range(MICRO):
            row, col, p, q = top + TILE * i, side + TILE * i, first + x, first + y
            tile_a[y + TILE * i, x] = a[row, p] if row < m and p < k else float32(0)
            tile_b[y, x + TILE * i] = b[q, col] if q < k and col < n else float32(0)
        cuda.syncthreads()
        for p in range(TILE):
            for j in range(MICRO):
                for i in range(MICRO):
                    sums[i, j] += tile_a[y + TILE * i, p] * tile_b[p, x + TILE * j]
        cuda.syncthreads()
    for i in range(MICRO):
        row = top + TILE * i
        for j in range(MICRO):
            col = side + TILE * j
            if row < m and col < n:
                c[row, col] = sums[i, j]
