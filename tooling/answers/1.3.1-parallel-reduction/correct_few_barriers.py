# The barrier stands before each level instead of after it, so there are as few as can be; two running
# totals per thread in the grid-stride loop; indices worked out by hand; the first threads do the neighbour pairs.

# %% reduce-bound
def rounding_bound(x: np.ndarray, additions: int) -> float:
    if additions >= 2**24:
        raise ValueError("too many additions for a bound")
    gamma = 1 / (1 - additions * U) - 1
    return gamma * math.fsum(abs(value) for value in x.tolist())

# %% reduce-atomic
@cuda.jit
def atomic_sum(x, out):
    i = cuda.blockIdx.x * cuda.blockDim.x + cuda.threadIdx.x
    if i >= x.size:
        return
    cuda.atomic.add(out, 0, x[i])

# %% reduce-interleaved
@cuda.jit
def interleaved_sum(work, partials):
    first = cuda.blockIdx.x * cuda.blockDim.x
    s = 1
    while s < cuda.blockDim.x:
        if s > 1:
            cuda.syncthreads()
        j = first + 2 * s * cuda.threadIdx.x
        if 2 * s * cuda.threadIdx.x < cuda.blockDim.x and j + s < work.size:
            work[j] = work[j + s] + work[j]
        s <<= 1
    if cuda.threadIdx.x == 0:
        if first < work.size:
            partials[cuda.blockIdx.x] = work[first]
        else:
            partials[cuda.blockIdx.x] = 0

# %% reduce-shared
@cuda.jit
def shared_sum(x, partials):
    tile = cuda.shared.array(MAX_THREADS, float32)
    t = cuda.threadIdx.x
    i = cuda.grid(1)
    tile[t] = 0
    if i < x.size:
        tile[t] = x[i]
    s = 1
    while s < cuda.blockDim.x:
        cuda.syncthreads()
        j = 2 * s * t
        if j + s < cuda.blockDim.x:
            tile[j] += tile[j + s]
        s *= 2
    if t == 0:
        partials[cuda.blockIdx.x] = tile[0]

# %% reduce-sequential
@cuda.jit
def sequential_sum(x, partials):
    tile = cuda.shared.array(MAX_THREADS, float32)
    t = cuda.threadIdx.x
    i = cuda.grid(1)
    mine = float32(0)
    if i < x.size:
        mine = x[i]
    tile[t] = mine
    s = cuda.blockDim.x >> 1
    while s:
        cuda.syncthreads()
        if t < s:
            mine += tile[t + s]
            tile[t] = mine
        s >>= 1
    if t == 0:
        partials[cuda.blockIdx.x] = mine

# %% reduce-grid-stride
@cuda.jit
def grid_stride_sum(x, partials):
    tile = cuda.shared.array(MAX_THREADS, float32)
    t = cuda.threadIdx.x
    grid = cuda.blockDim.x * cuda.gridDim.x
    even = float32(0)
    odd = float32(0)
    i = cuda.blockIdx.x * cuda.blockDim.x + t
    while i + grid < x.size:
        even += x[i]
        odd += x[i + grid]
        i += 2 * grid
    if i < x.size:
        even += x[i]
    tile[t] = even + odd
    s = 1
    while s < cuda.blockDim.x:
        cuda.syncthreads()
        if t % (2 * s) == 0:
            tile[t] += tile[t + s]
        s *= 2
    if t == 0:
        partials[cuda.blockIdx.x] = tile[0]

# %% reduce-two-stage
def two_stage_sum(kernel, x: np.ndarray, blocks: int, threads: int) -> float:
    if threads not in [2**k for k in range(11)]:
        raise ValueError("a power of two, please")
    result = np.empty(1, np.float32)
    source, partials, total = cuda.to_device(x.copy()), cuda.device_array((blocks,), np.float32), cuda.to_device(result)
    for grid, here, there in ((blocks, source, partials), (1, partials, total)):
        kernel[grid, threads](here, there)
    total.copy_to_host(result)
    return result.item()
