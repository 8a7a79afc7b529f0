# loses: test-hist-bins keeps 1, test-hist-module
# The highest edge belongs to no bin.

# %% hist-bins
@cuda.jit
def find_bins(x, edges, keys):
    i = cuda.grid(1)
    if i < x.size:
        bins = edges.size - 1
        v = x[i]
        k = -1
        if edges[0] <= v < edges[bins]:
            k = min(int((v - edges[0]) / (edges[bins] - edges[0]) * float32(bins)), bins - 1)
            if v < edges[k]:
                k -= 1
            elif k < bins - 1 and v >= edges[k + 1]:
                k += 1
        keys[i] = k
