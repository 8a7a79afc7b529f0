# loses: test-embed-by-element keeps 3, test-embed-lookup
# The elements are numbered column by column, so neighbouring threads stand in different rows.

# %% embed-by-element
@cuda.jit
def lookup_by_element(tokens, table, out):
    columns = table.shape[1]
    for element in range(cuda.grid(1), out.size, cuda.gridsize(1)):
        row, column = element % tokens.size, element // tokens.size
        out[row, column] = table[tokens[row], column]
