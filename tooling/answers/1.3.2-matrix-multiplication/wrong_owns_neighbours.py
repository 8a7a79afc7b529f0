# loses: test-matmul-register keeps 3
# Each thread owns eight neighbours: words 8 apart share banks, and c is stored in pieces.

# %% matmul-register
@cuda.jit
def register_matmul(a, b, c):
    tile_a = cuda.shared.array((BLOCK, TILE), float32)
    tile_b = cuda.shared.array((TILE, PADDED), float32)
    sums = cuda.local.array((MICRO, MICRO), float32)
    left = cuda.local.array(MICRO, float32)
    x, y = cuda.threadIdx.x, cuda.threadIdx.y
    top, side = cuda.blockIdx.y * BLOCK, cuda.blockIdx.x * BLOCK
    m, n, k = c.shape[0], c.shape[1], a.shape[1]
    for i in range(MICRO):
        for j in range(MICRO):
            sums[i, j] = 0
    for first in range(0, k, TILE):
        for i in range(MICRO):
            row, col, p, q = top + y + TILE * i, side + x + TILE * i, first + x, first + y
            tile_a[y + TILE * i, x] = a[row, p] if row < m and p < k else float32(0)
            tile_b[y, x + TILE * i] = b[q, col] if q < k and col < n else float32(0)
        cuda.syncthreads()
        for p in range(TILE):
            for i in range(MICRO):
                left[i] = tile_a[MICRO * y + i, p]
            for j in range(MICRO):
                right = tile_b[p, MICRO * x + j]
                for i in range(MICRO):
                    sums[i, j] += left[i] * right
        cuda.syncthreads()
    for i in range(MICRO):
        row = top + MICRO * y + i
        for j in range(MICRO):
            col = side + MICRO * x + j
            if row < m and col < n:
                c[row, col] = sums[i, j]
