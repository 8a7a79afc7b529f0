# loses: test-embed-scatter
# Common mistake 4: += in place of the atomic, so repeated tokens lose gradients.

# %% embed-scatter
@cuda.jit
def scatter_add(tokens, grad, padding, table_grad):
    for element in range(cuda.grid(1), grad.size, cuda.gridsize(1)):
        row, column = element // grad.shape[1], element % grad.shape[1]
        token = tokens[row]
        if token != padding:
            table_grad[token, column] += grad[row, column]
