# loses: test-embed-segment-sum
# The old row is added to, where it is to be overwritten.

# %% embed-segment-sum
@cuda.jit
def segment_sum(ids, starts, order, grad, table_grad):
    columns = grad.shape[1]
    for place in range(cuda.grid(1), ids.size * columns, cuda.gridsize(1)):
        segment, column = place // columns, place % columns
        total = table_grad[ids[segment], column]
        for k in range(starts[segment], starts[segment + 1]):
            total += grad[order[k], column]
        table_grad[ids[segment], column] = total
