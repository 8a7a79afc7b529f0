# loses: test-matmul-naive
# Only columns are guarded: threads below the last row of c read and write what is not theirs.

# %% matmul-naive
@cuda.jit
def naive_matmul(a, b, c):
    col, row = cuda.grid(2)
    if col < c.shape[1]:
        total = float32(0)
        for p in range(a.shape[1]):
            total += a[row, p] * b[p, col]
        c[row, col] = total
