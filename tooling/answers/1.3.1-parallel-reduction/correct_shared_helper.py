# One device function reduces a tile for three kernels; every tree is written as a loop over levels; the
# power of two is tested with a logarithm.

# %% reduce-bound
def rounding_bound(x: np.ndarray, additions: int) -> float:
    k = additions
    if k * U >= 1:
        raise ValueError(f"no bound for {k} additions")
    return float(np.abs(x.astype(np.float64)).sum() * (k * U) / (1 - k * U))

# %% reduce-shared
@cuda.jit(device=True)
def fold(tile, t, halves):
    """tile[0] becomes the sum of the block's tile. Every thread of the block calls it."""
    cuda.syncthreads()
    level = 1
    while level < cuda.blockDim.x:
        s = cuda.blockDim.x // (2 * level) if halves else level
        works = t < s if halves else t % (2 * s) == 0
        if works:
            tile[t] += tile[t + s]
        cuda.syncthreads()
        level *= 2


@cuda.jit
def shared_sum(x, partials):
    tile = cuda.shared.array(MAX_THREADS, float32)
    i = cuda.grid(1)
    if i < x.size:
        tile[cuda.threadIdx.x] = x[i]
    else:
        tile[cuda.threadIdx.x] = 0
    fold(tile, cuda.threadIdx.x, False)
    if cuda.threadIdx.x == 0:
        partials[cuda.blockIdx.x] = tile[0]

# %% reduce-sequential
@cuda.jit
def sequential_sum(x, partials):
    tile = cuda.shared.array(MAX_THREADS, float32)
    i = cuda.grid(1)
    if i < x.size:
        tile[cuda.threadIdx.x] = x[i]
    else:
        tile[cuda.threadIdx.x] = 0
    fold(tile, cuda.threadIdx.x, True)
    if cuda.threadIdx.x == 0:
        partials[cuda.blockIdx.x] = tile[0]

# %% reduce-grid-stride
@cuda.jit
def grid_stride_sum(x, partials):
    tile = cuda.shared.array(MAX_THREADS, float32)
    tile[cuda.threadIdx.x] = 0
    for i in range(cuda.grid(1), x.size, cuda.blockDim.x * cuda.gridDim.x):
        tile[cuda.threadIdx.x] += x[i]
    fold(tile, cuda.threadIdx.x, True)
    if cuda.threadIdx.x == 0:
        partials[cuda.blockIdx.x] = tile[0]

# %% reduce-two-stage
def two_stage_sum(kernel, x: np.ndarray, blocks: int, threads: int) -> float:
    if threads < 1 or not math.log2(threads).is_integer():
        raise ValueError(f"{threads} threads cannot be halved down to one")
    partials = cuda.to_device(np.zeros(blocks, np.float32))
    kernel[(blocks,), (threads,)](cuda.to_device(np.array(x, order="C")), partials)
    total = cuda.to_device(np.zeros(1, np.float32))
    kernel[(1,), (threads,)](partials, total)
    return float(total.copy_to_host().item())
