# loses: test-embed-scatter keeps 3
# A whole row for each thread.

# %% embed-scatter
@cuda.jit
def scatter_add(tokens, grad, padding, table_grad):
    for row in range(cuda.grid(1), tokens.size, cuda.gridsize(1)):
        token = tokens[row]
        if token != padding:
            for column in range(grad.shape[1]):
                cuda.atomic.add(table_grad, (token, column), grad[row, column])
