# loses: test-scale, test-scaled
# Threads behind the end.

# %% scale
@cuda.jit
def scale(x, factor, out):
    k = cuda.grid(1)
    out[k] = factor * x[k]
