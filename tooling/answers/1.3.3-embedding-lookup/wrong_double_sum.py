# loses: test-embed-segment-sum, test-embed-function keeps 2
# The running sum is a float64, because 0.0 is one in a kernel.

# %% embed-segment-sum
@cuda.jit
def segment_sum(ids, starts, order, grad, table_grad):
    columns = grad.shape[1]
    for place in range(cuda.grid(1), ids.size * columns, cuda.gridsize(1)):
        segment, column = place // columns, place % columns
        total = 0.0
        for k in range(starts[segment], starts[segment + 1]):
            total += grad[order[k], column]
        table_grad[ids[segment], column] = total
