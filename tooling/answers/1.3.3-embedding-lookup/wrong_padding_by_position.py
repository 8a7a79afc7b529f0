# loses: test-embed-scatter keeps 4
# The row's number is compared with the padding, not its token.

# %% embed-scatter
@cuda.jit
def scatter_add(tokens, grad, padding, table_grad):
    for element in range(cuda.grid(1), grad.size, cuda.gridsize(1)):
        row, column = element // grad.shape[1], element % grad.shape[1]
        token = tokens[row]
        if row != padding:
            cuda.atomic.add(table_grad, (token, column), grad[row, column])
