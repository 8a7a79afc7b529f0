# loses: test-matmul-tiled, test-matmul-host keeps 2
# The products start before the tile is complete.

# %% matmul-tiled
@cuda.jit
def tiled_matmul(a, b, c):
    tile_a = cuda.shared.array((TILE, TILE), float32)
    tile_b = cuda.shared.array((TILE, TILE), float32)
    x, y = cuda.threadIdx.x, cuda.threadIdx.y
    col, row = cuda.grid(2)
    m, n, k = c.shape[0], c.shape[1], a.shape[1]
    total = float32(0)
    for first in range(0, k, TILE):
        tile_a[y, x] = a[row, first + x] if row < m and first + x < k else float32(0)
        tile_b[y, x] = b[first + y, col] if col < n and first + y < k else float32(0)
        for p in range(TILE):
            total += tile_a[y, p] * tile_b[p, x]
        cuda.syncthreads()
    if row < m and col < n:
        c[row, col] = total
