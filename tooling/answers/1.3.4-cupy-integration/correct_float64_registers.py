# Float64 sums in a device function with while loops; a class for the modules found; deviations through a variance.

# %% cupy-module
def is_number(value):
    return value is None or isinstance(value, (int, float, np.number, np.bool_))


def array_module(*arrays: Any) -> Any:
    modules = {id(np): np} if not [a for a in arrays if not is_number(a)] else {}
    for value in arrays:
        if not is_number(value):
            for module in MODULES:
                if isinstance(value, module.ndarray):
                    modules[id(module)] = module
                    break
            else:
                raise TypeError(f"unknown: {type(value)}")
    if len(modules) != 1:
        raise TypeError("arrays of different modules")
    return next(iter(modules.values()))

# %% cupy-standardize
def standardize(x: Any) -> Any:
    if not x.shape[0]:
        raise ValueError("at least one row, please")
    xp = array_module(x)
    low, wide = x.min(axis=0), x.astype(xp.float64)
    same = x.max(axis=0) <= low
    variance = wide.var(axis=0) + same
    return ((wide - xp.where(same, low, wide.mean(axis=0))) / xp.sqrt(variance)).astype(x.dtype)

# %% cupy-rows
@cuda.jit(device=True)
def together(tile, value):
    t, step = cuda.threadIdx.x, cuda.blockDim.x >> 1
    tile[t] = value
    cuda.syncthreads()
    while step > 0:
        if t < step:
            tile[t] += tile[t + step]
        cuda.syncthreads()
        step >>= 1
    total = tile[0]
    cuda.syncthreads()
    return total


@cuda.jit
def rows_kernel(x, out):
    tile = cuda.shared.array(MAX_THREADS, float32)
    b, n = cuda.blockIdx.x, x.shape[1]
    mine = 0.0
    j = cuda.threadIdx.x
    while j < n:
        mine += x[b, j]
        j += cuda.blockDim.x
    mean = together(tile, mine) / n
    mine = 0.0
    j = cuda.threadIdx.x
    while j < n:
        mine += (x[b, j] - mean) ** 2
        j += cuda.blockDim.x
    scale = 1 / math.sqrt(together(tile, mine) / n + EPS)
    j = cuda.threadIdx.x
    while j < n:
        out[b, j] = (x[b, j] - mean) * scale
        j += cuda.blockDim.x
