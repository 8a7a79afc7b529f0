# loses: test-embed-by-element keeps 3, test-embed-lookup
# Common mistake 1: a whole row for each thread, so the threads of a warp stand in 32 rows.

# %% embed-by-element
@cuda.jit
def lookup_by_element(tokens, table, out):
    for row in range(cuda.grid(1), tokens.size, cuda.gridsize(1)):
        for column in range(table.shape[1]):
            out[row, column] = table[tokens[row], column]
