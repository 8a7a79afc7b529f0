# loses: test-embed-by-row
# The loop ends one column early.

# %% embed-by-row
@cuda.jit
def lookup_by_row(tokens, table, out):
    n = cuda.grid(1)
    if n < tokens.size:
        token = tokens[n]
        for column in range(table.shape[1] - 1):
            out[n, column] = table[token, column]
