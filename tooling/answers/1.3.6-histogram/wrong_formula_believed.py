# loses: test-hist-bins keeps 3, test-hist-module
# The guess is not corrected, so values at edges land one bin off. Common mistake 5.

# %% hist-bins
@cuda.jit
def find_bins(x, edges, keys):
    i = cuda.grid(1)
    if i < x.size:
        bins = edges.size - 1
        v = x[i]
        k = -1
        if edges[0] <= v <= edges[bins]:
            k = min(int((v - edges[0]) / (edges[bins] - edges[0]) * float32(bins)), bins - 1)
        keys[i] = k
