# loses: test-matmul-naive keeps 2
# The running sum lives in global memory: a load and a store more for each product.

# %% matmul-naive
@cuda.jit
def naive_matmul(a, b, c):
    col, row = cuda.grid(2)
    if row < c.shape[0] and col < c.shape[1]:
        c[row, col] = 0
        for p in range(a.shape[1]):
            c[row, col] += a[row, p] * b[p, col]
