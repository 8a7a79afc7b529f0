# A device function for the guess in float32, while loops for loops, copies side by side with a rotated merge, cumsum in the select.

# %% hist-bins
@cuda.jit(device=True)
def settle(v, edges, k):
    """Move k until v lies in bin k."""
    while k > 0 and v < edges[k]:
        k -= 1
    while k + 2 < edges.size and v >= edges[k + 1]:
        k += 1
    return k


@cuda.jit
def find_bins(x, edges, keys):
    i = cuda.grid(1)
    if i >= x.size:
        return
    low, high = edges[0], edges[edges.size - 1]
    if x[i] >= low and x[i] <= high:
        part = (x[i] - low) / (high - low)
        keys[i] = settle(x[i], edges, min(int(part * np.float32(edges.size - 1)), edges.size - 2))
    else:
        keys[i] = -1

# %% hist-global
@cuda.jit
def global_histogram(keys, counts):
    i = cuda.blockIdx.x * cuda.blockDim.x + cuda.threadIdx.x
    while i < keys.size:
        k = keys[i]
        if k < counts.size and k >= 0:
            cuda.atomic.add(counts, k, int32(1))
        i += cuda.blockDim.x * cuda.gridDim.x

# %% hist-spread
@cuda.jit
def spread_histogram(keys, counts):
    tile = cuda.shared.array(SLOTS, int32)
    t = cuda.threadIdx.x
    slot = t
    while slot < SLOTS:
        tile[slot] = 0
        slot += cuda.blockDim.x
    cuda.syncthreads()
    for i in range(cuda.grid(1), keys.size, cuda.gridsize(1)):
        k = keys[i]
        if k >= 0 and k < counts.size:
            cuda.atomic.add(tile, k * COPIES + t % COPIES, 1)
    cuda.syncthreads()
    b = t
    while b < counts.size:
        total = 0
        for step in range(COPIES):
            total += tile[b * COPIES + (step + b // 4) % COPIES]
        if total:
            cuda.atomic.add(counts, b, total)
        b += cuda.blockDim.x

# %% hist-select
def kth_largest(x: np.ndarray, k: int) -> float:
    if k < 1 or k > len(x):
        raise ValueError(f"{len(x)} numbers have no rank {k}")
    words = cuda.to_device(np.abs(x).view(np.int32))
    keys = cuda.to_device(np.empty(len(x), np.int32))
    known, blocks = 0, -(-len(x) // 128)
    for digit in range(3, -1, -1):
        digits[blocks, 128](words, 8 * digit, known, keys)
        counts = cuda.to_device(np.zeros(RADIX, np.int32))
        shared_histogram[4, 128](keys, counts)
        passed = np.cumsum(counts.copy_to_host()[::-1])
        place = int(np.searchsorted(passed, k))
        k -= int(passed[place - 1]) if place else 0
        known = known << 8 | (RADIX - 1 - place)
    return float(np.int32(known).view(np.float32))
