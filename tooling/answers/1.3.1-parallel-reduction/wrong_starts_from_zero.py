# loses: test-reduce-atomic
# The first thread clears out[0] "to be safe": what was in it is lost, and so is what faster threads have added.

# %% reduce-atomic
@cuda.jit
def atomic_sum(x, out):
    i = cuda.grid(1)
    if i == 0:
        out[0] = 0
    if i < x.size:
        cuda.atomic.add(out, 0, x[i])
