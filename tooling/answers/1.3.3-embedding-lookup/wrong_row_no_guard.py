# loses: test-embed-by-row
# Threads behind the last token read and write past the ends of the arrays.

# %% embed-by-row
@cuda.jit
def lookup_by_row(tokens, table, out):
    n = cuda.grid(1)
    token = tokens[n]
    for column in range(table.shape[1]):
        out[n, column] = table[token, column]
