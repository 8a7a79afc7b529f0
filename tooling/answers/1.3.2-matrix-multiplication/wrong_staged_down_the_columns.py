# loses: test-matmul-transposed keeps 4
# Neighbours in x stage neighbours in a column of b, which are a row apart in memory.

# %% matmul-transposed
@cuda.jit
def transposed_matmul(a, b, c):
    tile_a = cuda.shared.array((TILE, TILE), float32)
    tile_b = cuda.shared.array((TILE, 17), float32)  # TILE + 1: Numba does no arithmetic here
    x, y = cuda.threadIdx.x, cuda.threadIdx.y
    col, row = cuda.grid(2)
    source = cuda.blockIdx.x * TILE + y
    m, n, k = c.shape[0], c.shape[1], a.shape[1]
    total = float32(0)
    for first in range(0, k, TILE):
        tile_a[y, x] = a[row, first + x] if row < m and first + x < k else float32(0)
        tile_b[x, y] = b[col, first + y] if col < n and first + y < k else float32(0)
        cuda.syncthreads()
        for p in range(TILE):
            total += tile_a[y, p] * tile_b[x, p]
        cuda.syncthreads()
    if row < m and col < n:
        c[row, col] = total
