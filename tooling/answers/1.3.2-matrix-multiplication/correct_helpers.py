# A device function stages, so that every kernel has one guard for each operand; only the products that exist are
# added; rows of 17 words for both tiles.

# %% matmul-naive
@cuda.jit(device=True)
def dot(a, b, row, col):
    total = float32(0)
    for p in range(b.shape[0]):
        total += a[row, p] * b[p, col]
    return total


@cuda.jit
def naive_matmul(a, b, c):
    col, row = cuda.grid(2)
    if col < c.shape[1] and row < c.shape[0]:
        c[row, col] = dot(a, b, row, col)

# %% matmul-tiled
@cuda.jit(device=True)
def element(matrix, i, j):
    if i < matrix.shape[0] and j < matrix.shape[1]:
        return matrix[i, j]
    return float32(0)


@cuda.jit
def tiled_matmul(a, b, c):
    tile_a = cuda.shared.array((TILE, TILE), float32)
    tile_b = cuda.shared.array((TILE, TILE), float32)
    x, y = cuda.threadIdx.x, cuda.threadIdx.y
    col, row = cuda.grid(2)
    k = a.shape[1]
    total = float32(0)
    for first in range(0, k, TILE):
        tile_a[y, x] = element(a, row, first + x)
        tile_b[y, x] = element(b, first + y, col)
        cuda.syncthreads()
        for p in range(min(TILE, k - first)):
            total += tile_a[y, p] * tile_b[p, x]
        cuda.syncthreads()
    if row < c.shape[0] and col < c.shape[1]:
        c[row, col] = total

# %% matmul-transposed
@cuda.jit(device=True)
def there(matrix, i, j):
    return matrix[i, j] if i < matrix.shape[0] and j < matrix.shape[1] else float32(0)


@cuda.jit
def transposed_matmul(a, b, c):
    tile_a = cuda.shared.array((TILE, TILE), float32)
    tile_b = cuda.shared.array((TILE, 17), float32)
    x, y = cuda.threadIdx.x, cuda.threadIdx.y
    col, row = cuda.grid(2)
    total = float32(0)
    tiles = (a.shape[1] + TILE - 1) // TILE
    for tile in range(tiles):
        tile_a[y, x] = there(a, row, tile * TILE + x)
        tile_b[y, x] = there(b, col - x + y, tile * TILE + x)
        cuda.syncthreads()
        for p in range(TILE):
            total += tile_a[y, p] * tile_b[x, p]
        if tile < tiles - 1:
            cuda.syncthreads()
    if row < c.shape[0] and col < c.shape[1]:
        c[row, col] = total

# %% matmul-register
@cuda.jit(device=True)
def value_at(matrix, i, j):
    return matrix[i, j] if i < matrix.shape[0] and j < matrix.shape[1] else float32(0)


@cuda.jit
def register_matmul(a, b, c):
    tile_a = cuda.shared.array((TILE, 130), float32)
    tile_b = cuda.shared.array((TILE, PADDED), float32)
    sums = cuda.local.array((MICRO, MICRO), float32)
    left = cuda.local.array(MICRO, float32)
    right = cuda.local.array(MICRO, float32)
    x, y = cuda.threadIdx.x, cuda.threadIdx.y
    top, side = cuda.blockIdx.y * BLOCK, cuda.blockIdx.x * BLOCK
    for i in range(MICRO):
        for j in range(MICRO):
            sums[i, j] = 0
    for first in range(0, a.shape[1], TILE):
        for i in range(MICRO):
            tile_a[x, y + TILE * i] = value_at(a, top + y + TILE * i, first + x)
            tile_b[y, x + TILE * i] = value_at(b, first + y, side + x + TILE * i)
        cuda.syncthreads()
        for p in range(TILE):
            for i in range(MICRO):
                left[i] = tile_a[p, y + TILE * i]
                right[i] = tile_b[p, x + TILE * i]
            for i in range(MICRO):
                for j in range(MICRO):
                    sums[i, j] += left[i] * right[j]
        cuda.syncthreads()
    for i in range(MICRO):
        row = top + y + TILE * i
        if row < c.shape[0]:
            for j in range(MICRO):
                col = side + x + TILE * j
                if col < c.shape[1]:
                    c[row, col] = sums[i, j]
