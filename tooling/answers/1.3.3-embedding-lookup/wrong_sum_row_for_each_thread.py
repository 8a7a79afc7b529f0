# loses: test-embed-segment-sum keeps 3
# A whole segment for each thread.

# %% embed-segment-sum
@cuda.jit
def segment_sum(ids, starts, order, grad, table_grad):
    for segment in range(cuda.grid(1), ids.size, cuda.gridsize(1)):
        for column in range(grad.shape[1]):
            total = float32(0)
            for k in range(starts[segment], starts[segment + 1]):
                total += grad[order[k], column]
            table_grad[ids[segment], column] = total
