# loses: test-embed-by-element, test-embed-lookup
# The stride is that of a block, so several threads copy the same elements.

# %% embed-by-element
@cuda.jit
def lookup_by_element(tokens, table, out):
    columns = table.shape[1]
    for element in range(cuda.grid(1), out.size, cuda.blockDim.x):
        row, column = element // columns, element % columns
        out[row, column] = table[tokens[row], column]
