# loses: test-matmul-transposed keeps 2, test-matmul-host keeps 4
# The row of b that is staged is guarded by the column of c that is owned.

# %% matmul-transposed
@cuda.jit
def transposed_matmul(a, b, c):
    tile_a = cuda.shared.array((TILE, TILE), float32)
    tile_b = cuda.shared.array((TILE, TILE + 1), float32)
    x, y = cuda.threadIdx.x, cuda.threadIdx.y
    col, row = cuda.grid(2)
    source = cuda.blockIdx.x * TILE + y
    m, n, k = c.shape[0], c.shape[1], a.shape[1]
    total = float32(0)
    for first in range(0, k, TILE):
        tile_a[y, x] = a[row, first + x] if row < m and first + x < k else float32(0)
        tile_b[y, x] = b[source, first + x] if col < n and first + x < k else float32(0)
        cuda.syncthreads()
        for p in range(TILE):
            total += tile_a[y, p] * tile_b[x, p]
        cuda.syncthreads()
    if row < m and col < n:
        c[row, col] = total
