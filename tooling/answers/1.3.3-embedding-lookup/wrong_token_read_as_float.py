# loses: test-embed-lookup, test-embed-refusals, test-embed-function keeps 2
# The copy goes through a float32, which keeps no wide integer and no float64.

# %% embed-by-element
@cuda.jit
def lookup_by_element(tokens, table, out):
    columns = table.shape[1]
    for element in range(cuda.grid(1), out.size, cuda.gridsize(1)):
        row, column = element // columns, element % columns
        out[row, column] = float32(table[tokens[row], column])
