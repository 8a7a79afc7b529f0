# loses: test-matmul-naive keeps 2
# x, in which the threads of a warp differ, is the row: right values, 33 sectors where 5 would do.

# %% matmul-naive
@cuda.jit
def naive_matmul(a, b, c):
    row, col = cuda.grid(2)
    if row < c.shape[0] and col < c.shape[1]:
        total = float32(0)
        for p in range(a.shape[1]):
            total += a[row, p] * b[p, col]
        c[row, col] = total
