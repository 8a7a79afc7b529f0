# loses: test-embed-scatter
# No loop: a small grid leaves gradients out.

# %% embed-scatter
@cuda.jit
def scatter_add(tokens, grad, padding, table_grad):
    element = cuda.grid(1)
    if element < grad.size:
        row, column = element // grad.shape[1], element % grad.shape[1]
        token = tokens[row]
        if token != padding:
            cuda.atomic.add(table_grad, (token, column), grad[row, column])
