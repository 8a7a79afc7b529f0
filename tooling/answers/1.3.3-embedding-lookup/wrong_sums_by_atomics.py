# loses: test-embed-segment-sum
# Atomic additions, where one thread can add alone.

# %% embed-segment-sum
@cuda.jit
def segment_sum(ids, starts, order, grad, table_grad):
    columns = grad.shape[1]
    for place in range(cuda.grid(1), ids.size * columns, cuda.gridsize(1)):
        segment, column = place // columns, place % columns
        table_grad[ids[segment], column] = 0
        for k in range(starts[segment], starts[segment + 1]):
            cuda.atomic.add(table_grad, (ids[segment], column), grad[order[k], column])
