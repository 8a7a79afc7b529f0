# loses: test-reduce-two-stage
# The second stage is NumPy's, on partials that travel back to the host: right for sums, and not two launches.

# %% reduce-two-stage
def two_stage_sum(kernel, x: np.ndarray, blocks: int, threads: int) -> float:
    if threads < 1 or threads & (threads - 1):
        raise ValueError("threads must be a power of two")
    partials = np.zeros(blocks, np.float32)
    kernel[blocks, threads](x, partials)
    return float(partials.sum())
