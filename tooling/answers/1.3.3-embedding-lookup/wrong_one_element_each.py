# loses: test-embed-by-element keeps 2
# No loop: what a grid that is smaller than the output leaves over stays as it was.

# %% embed-by-element
@cuda.jit
def lookup_by_element(tokens, table, out):
    columns = table.shape[1]
    element = cuda.grid(1)
    if element < out.size:
        row, column = element // columns, element % columns
        out[row, column] = table[tokens[row], column]
