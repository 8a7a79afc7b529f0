# loses: test-matmul-naive keeps 2, test-matmul-tiled keeps 4, test-matmul-transposed keeps 2
# A sum that starts as 0.0 is float64 to Numba, and so is every addition to it.

# %% matmul-naive
@cuda.jit
def naive_matmul(a, b, c):
    col, row = cuda.grid(2)
    if row < c.shape[0] and col < c.shape[1]:
        total = 0.0
        for p in range(a.shape[1]):
            total += a[row, p] * b[p, col]
        c[row, col] = total

# %% matmul-tiled
@cuda.jit
def tiled_matmul(a, b, c):
    tile_a = cuda.shared.array((TILE, TILE), float32)
    tile_b = cuda.shared.array((TILE, TILE), float32)
    x, y = cuda.threadIdx.x, cuda.threadIdx.y
    col, row = cuda.grid(2)
    m, n, k = c.shape[0], c.shape[1], a.shape[1]
    total = 0.0
    for first in range(0, k, TILE):
        tile_a[y, x] = a[row, first + x] if row < m and first + x < k else float32(0)
        tile_b[y, x] = b[first + y, col] if col < n and first + y < k else float32(0)
        cuda.syncthreads()
        for p in range(TILE):
            total += tile_a[y, p] * tile_b[p, x]
        cuda.syncthreads()
    if row < m and col < n:
        c[row, col] = total

# %% matmul-transposed
@cuda.jit
def transposed_matmul(a, b, c):
    tile_a = cuda.shared.array((TILE, TILE), float32)
    tile_b = cuda.shared.array((TILE, 17), float32)  # TILE + 1: Numba does no arithmetic here
    x, y = cuda.threadIdx.x, cuda.threadIdx.y
    col, row = cuda.grid(2)
    source = cuda.blockIdx.x * TILE + y
    m, n, k = c.shape[0], c.shape[1], a.shape[1]
    total = 0.0
    for first in range(0, k, TILE):
        tile_a[y, x] = a[row, first + x] if row < m and first + x < k else float32(0)
        tile_b[y, x] = b[source, first + x] if source < n and first + x < k else float32(0)
        cuda.syncthreads()
        for p in range(TILE):
            total += tile_a[y, p] * tile_b[x, p]
        cuda.syncthreads()
    if row < m and col < n:
        c[row, col] = total
