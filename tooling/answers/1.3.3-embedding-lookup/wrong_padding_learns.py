# loses: test-embed-scatter keeps 4
# Padding gets a gradient like any other token.

# %% embed-scatter
@cuda.jit
def scatter_add(tokens, grad, padding, table_grad):
    for element in range(cuda.grid(1), grad.size, cuda.gridsize(1)):
        row, column = element // grad.shape[1], element % grad.shape[1]
        token = tokens[row]
        if padding < table_grad.shape[0]:
            cuda.atomic.add(table_grad, (token, column), grad[row, column])
