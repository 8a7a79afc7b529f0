# loses: test-reduce-two-stage keeps 3
# Takes a block of 96 threads, which a tree of halves cannot reduce: common mistake 6.

# %% reduce-two-stage
def two_stage_sum(kernel, x: np.ndarray, blocks: int, threads: int) -> float:
    source = cuda.to_device(np.ascontiguousarray(x))
    partials = cuda.device_array(blocks, np.float32)
    total = cuda.device_array(1, np.float32)
    kernel[blocks, threads](source, partials)
    kernel[1, threads](partials, total)
    return float(total.copy_to_host()[0])
