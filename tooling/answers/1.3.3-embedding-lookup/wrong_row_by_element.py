# loses: test-embed-by-row
# Dealt out by elements, where a row for each thread is asked for.

# %% embed-by-row
@cuda.jit
def lookup_by_row(tokens, table, out):
    for element in range(cuda.grid(1), out.size, cuda.gridsize(1)):
        n, column = element // table.shape[1], element % table.shape[1]
        out[n, column] = table[tokens[n], column]
