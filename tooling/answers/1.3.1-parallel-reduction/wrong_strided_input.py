# loses: test-reduce-two-stage keeps 3
# Copies x as it is: fine for every array that was ever tried, all of them contiguous.

# %% reduce-two-stage
def two_stage_sum(kernel, x: np.ndarray, blocks: int, threads: int) -> float:
    if threads < 1 or threads & (threads - 1):
        raise ValueError("threads must be a power of two")
    source = cuda.to_device(x)
    partials = cuda.device_array(blocks, np.float32)
    total = cuda.device_array(1, np.float32)
    kernel[blocks, threads](source, partials)
    kernel[1, threads](partials, total)
    return float(total.copy_to_host()[0])
