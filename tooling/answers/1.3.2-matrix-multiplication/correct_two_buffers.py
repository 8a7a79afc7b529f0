# Two buffers and one barrier a tile; the tile of b is stored turned round in rows of 18 words, without any conflict;
# the register kernel fetches the next tile ahead, with its own order of loads; indices worked out by hand.

# %% matmul-naive
@cuda.jit
def naive_matmul(a, b, c):
    row = cuda.blockIdx.y * cuda.blockDim.y + cuda.threadIdx.y
    col = cuda.blockIdx.x * cuda.blockDim.x + cuda.threadIdx.x
    if row >= c.shape[0] or col >= c.shape[1]:
        return
    k = a.shape[1]
    total = float32(0)
    p = 0
    while p < k:
        total = total + b[p, col] * a[row, p]
        p += 1
    c[row, col] = total

# %% matmul-tiled
@cuda.jit
def tiled_matmul(a, b, c):
    left = cuda.shared.array((2, TILE, TILE), float32)
    right = cuda.shared.array((2, TILE, TILE), float32)
    x, y = cuda.threadIdx.x, cuda.threadIdx.y
    row, col = cuda.blockIdx.y * TILE + y, cuda.blockIdx.x * TILE + x
    total = float32(0)
    for tile in range((a.shape[1] + TILE - 1) // TILE):
        here = tile % 2
        p, q = tile * TILE + x, tile * TILE + y
        left[here, y, x] = 0
        right[here, y, x] = 0
        if row < a.shape[0] and p < a.shape[1]:
            left[here, y, x] = a[row, p]
        if q < b.shape[0] and col < b.shape[1]:
            right[here, y, x] = b[q, col]
        cuda.syncthreads()
        for s in range(TILE):
            total += left[here, y, s] * right[here, s, x]
    if row < c.shape[0] and col < c.shape[1]:
        c[row, col] = total

# %% matmul-transposed
@cuda.jit
def transposed_matmul(a, b, c):
    left = cuda.shared.array((TILE, TILE), float32)
    right = cuda.shared.array((TILE, 18), float32)
    x, y = cuda.threadIdx.x, cuda.threadIdx.y
    top, side = cuda.blockIdx.y * TILE, cuda.blockIdx.x * TILE
    m, n, k = a.shape[0], b.shape[0], a.shape[1]
    total = float32(0)
    first = 0
    while first < k:
        if first > 0:
            cuda.syncthreads()
        one, other = float32(0), float32(0)
        if first + x < k:
            if top + y < m:
                one = a[top + y, first + x]
            if side + y < n:
                other = b[side + y, first + x]
        left[y, x] = one
        right[x, y] = other
        cuda.syncthreads()
        for s in range(TILE):
            total += left[y, s] * right[s, x]
        first += TILE
    if top + y < m and side + x < n:
        c[top + y, side + x] = total

# %% matmul-roofline
def roofline(m: int, n: int, k: int, rows: int, columns: int, gpu: GPU) -> Prediction:
    for size in (m, n, k, rows, columns):
        if size <= 0:
            raise ValueError("sizes are positive")
    down, across = len(range(0, m, rows)), len(range(0, n, columns))
    elements = across * m * k + down * k * n + m * n
    work = 2 * m * n * k
    compute_s, memory_s = work / gpu.flops, 4 * elements / gpu.bandwidth
    intensity = work / (4 * elements)
    kind = "compute" if intensity >= gpu.flops / gpu.bandwidth else "memory"
    return Prediction(work, 4 * elements, intensity, kind, compute_s if compute_s > memory_s else memory_s)


def resident_blocks(threads: int, shared: int, registers: int, gpu: GPU) -> tuple[int, str]:
    warps = (threads + 31) // 32
    needs = [1, 32 * warps, shared + 1024, (registers + 7) // 8 * 256 * warps]
    has = [gpu.blocks, gpu.threads, gpu.shared, gpu.registers]
    fits = [available // needed for available, needed in zip(has, needs, strict=True)]
    names = ["blocks", "threads", "shared memory", "registers"]
    return min(fits), names[fits.index(min(fits))]

# %% matmul-register
@cuda.jit
def register_matmul(a, b, c):
    tile_a = cuda.shared.array((BLOCK, TILE), float32)
    tile_b = cuda.shared.array((TILE, BLOCK), float32)
    sums = cuda.local.array(64, float32)
    next_a = cuda.local.array(MICRO, float32)
    next_b = cuda.local.array(MICRO, float32)
    x, y = cuda.threadIdx.x, cuda.threadIdx.y
    t = TILE * y + x
    top, side = cuda.blockIdx.y * BLOCK, cuda.blockIdx.x * BLOCK
    m, n, k = a.shape[0], b.shape[1], a.shape[1]
    for i in range(MICRO * MICRO):
        sums[i] = 0
    for first in range(0, k, TILE):
        for i in range(MICRO):
            row, p = top + t // TILE + TILE * i, first + t % TILE
            next_a[i] = a[row, p] if row < m and p < k else float32(0)
            q, col = first + t // BLOCK + 2 * i, side + t % BLOCK
            next_b[i] = b[q, col] if q < k and col < n else float32(0)
        if first > 0:
            cuda.syncthreads()
        for i in range(MICRO):
            tile_a[t // TILE + TILE * i, t % TILE] = next_a[i]
            tile_b[t // BLOCK + 2 * i, t % BLOCK] = next_b[i]
        cuda.syncthreads()
        for p in range(TILE):
            for j in range(MICRO):
                next_b[j] = tile_b[p, x + TILE * j]
            for i in range(MICRO):
                one = tile_a[y + TILE * i, p]
                for j in range(MICRO):
                    sums[MICRO * i + j] += one * next_b[j]
    for i in range(MICRO):
        for j in range(MICRO):
            row, col = top + y + TILE * i, side + x + TILE * j
            if row < m and col < n:
                c[row, col] = sums[MICRO * i + j]

# %% matmul-host
def matmul(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    if not a.dtype == b.dtype == np.dtype("float32"):
        raise TypeError(f"both must be float32; got {a.dtype} @ {b.dtype}")
    if (a.ndim, b.ndim) != (2, 2):
        raise ValueError(f"two matrices, please, not shapes {a.shape} @ {b.shape}")
    (m, k), (inner, n) = a.shape, b.shape
    if k != inner:
        raise ValueError(f"shapes {a.shape} @ {b.shape}: {k} is not {inner}")
    c = np.empty((m, n), np.float32)
    if c.size == 0 or k == 0:
        c[:] = 0
        return c
    if b.flags.f_contiguous and not b.flags.c_contiguous:
        launch, operand, side = transposed_matmul, b.T, 16
    elif m < 128 or n < 128:
        launch, operand, side = tiled_matmul, b, 16
    else:
        launch, operand, side = register_matmul, b, 128
    device_a, device_b, device_c = cuda.to_device(a.copy("C")), cuda.to_device(operand.copy("C")), cuda.to_device(c)
    launch[((n + side - 1) // side, (m + side - 1) // side), (16, 16)](device_a, device_b, device_c)
    device_c.copy_to_host(c)
    return c
