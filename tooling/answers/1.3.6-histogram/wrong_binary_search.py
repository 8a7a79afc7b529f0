# loses: test-hist-bins keeps 3
# Finds the bin by a binary search: right, and with a dozen dependent reads for each value.

# %% hist-bins
@cuda.jit
def find_bins(x, edges, keys):
    i = cuda.grid(1)
    if i < x.size:
        bins = edges.size - 1
        v = x[i]
        k = -1
        if edges[0] <= v <= edges[bins]:
            k, end = 0, bins
            while end - k > 1:
                middle = (k + end) // 2
                if v >= edges[middle]:
                    k = middle
                else:
                    end = middle
        keys[i] = k
