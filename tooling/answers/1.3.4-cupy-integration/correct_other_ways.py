# nansum and a transposed count, deviations by hand, comparisons for buckets, a generic kernel type, get() for the way home.

# %% cupy-module
def array_module(*arrays: Any) -> Any:
    owners = []
    for value in arrays:
        if value is None or isinstance(value, (bool, int, float, np.number, np.bool_)):
            continue
        mine = [module for module in MODULES if isinstance(value, module.ndarray)]
        if not mine:
            raise TypeError("not an array")
        owners += mine
    if any(owner is not owners[0] for owner in owners):
        raise TypeError("mixed arrays")
    return owners[0] if owners else np

# %% cupy-fill
def fill_missing(x: Any) -> Any:
    xp = array_module(x)
    there = xp.logical_not(xp.isnan(x))
    count = there.sum(axis=0)
    mean = xp.nansum(x.astype(xp.float64), axis=0) / xp.where(count == 0, 1, count)
    result = x.copy()
    result[...] = xp.where(there, x, mean.astype(x.dtype)[None, :])
    return result

# %% cupy-standardize
def standardize(x: Any) -> Any:
    if len(x) < 1:
        raise ValueError("no rows")
    xp = array_module(x)
    d = x.astype(xp.float64)
    d = d - d.mean(axis=0, keepdims=True)
    deviation = xp.sqrt((d * d).mean(axis=0, keepdims=True))
    varies = (x != x[:1]).any(axis=0)
    scaled = xp.where(varies, d, 0) / xp.where(varies, deviation, 1)
    return scaled.astype(x.dtype)

# %% cupy-encode
def bucketize(x: Any, edges: Any) -> Any:
    xp = array_module(x, edges)
    return (x[:, None] >= edges).sum(axis=1, dtype=xp.int32)


def one_hot(codes: Any, classes: int) -> Any:
    xp = array_module(codes)
    return xp.equal(codes.reshape(-1, 1), xp.arange(classes)[None]).astype("float32")

# %% cupy-fused
def fused_scale(xp: Any) -> Any:
    body = """
    T z = (x - mean) * inverse;
    float low = fmaxf(z, -limit);
    y = isnan(z) ? 0 : low > limit ? limit : low;
    """
    return xp.ElementwiseKernel("T x, T mean, T inverse, float32 limit", "T y", body.replace("T z", "float z"))

# %% cupy-preprocess
def preprocess(table: np.ndarray, xp: Any) -> np.ndarray:
    data = xp.asarray(table)
    edges = (xp.arange(3) * 20 + 20).astype(xp.float32)
    parts = (
        standardize(fill_missing(data[:, : data.shape[1] - 2])),
        one_hot(bucketize(data[:, -2], edges), 4),
        one_hot(data[:, -1].astype("int64"), CLASSES),
    )
    features = xp.hstack(parts)
    return features.get() if hasattr(features, "get") else features

# %% cupy-rows
@cuda.jit
def rows_kernel(x, out):
    sums, squares = cuda.shared.array(MAX_THREADS, float32), cuda.shared.array(MAX_THREADS, float32)
    t, threads, n = cuda.threadIdx.x, cuda.blockDim.x, x.shape[1]
    values = x[cuda.blockIdx.x]
    sums[t] = 0
    squares[t] = 0
    for j in range(t, n, threads):
        sums[t] += values[j]
    step = threads // 2
    cuda.syncthreads()
    while step:
        if t < step:
            sums[t] += sums[t + step]
        step //= 2
        cuda.syncthreads()
    mean = sums[0] / float32(n)
    for j in range(t, n, threads):
        d = values[j] - mean
        squares[t] += d * d
    step = threads // 2
    cuda.syncthreads()
    while step:
        if t < step:
            squares[t] += squares[t + step]
        step //= 2
        cuda.syncthreads()
    root = float32(math.sqrt(squares[0] / float32(n) + float32(EPS)))
    for j in range(t, n, threads):
        out[cuda.blockIdx.x, j] = (values[j] - mean) / root
