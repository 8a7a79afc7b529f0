# loses: test-embed-segment-sum, test-embed-function keeps 2
# The segment is walked from its end.

# %% embed-segment-sum
@cuda.jit
def segment_sum(ids, starts, order, grad, table_grad):
    columns = grad.shape[1]
    for place in range(cuda.grid(1), ids.size * columns, cuda.gridsize(1)):
        segment, column = place // columns, place % columns
        total = float32(0)
        for k in range(starts[segment + 1] - 1, starts[segment] - 1, -1):
            total += grad[order[k], column]
        table_grad[ids[segment], column] = total
