# loses: test-reduce-atomic
# out[0] += x[i], which other threads can interrupt: common mistake 5.

# %% reduce-atomic
@cuda.jit
def atomic_sum(x, out):
    i = cuda.grid(1)
    if i < x.size:
        out[0] += x[i]
