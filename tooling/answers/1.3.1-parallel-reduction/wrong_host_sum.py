# loses: test-reduce-two-stage
# NumPy does the work; no kernel is launched.

# %% reduce-two-stage
def two_stage_sum(kernel, x: np.ndarray, blocks: int, threads: int) -> float:
    if threads < 1 or threads & (threads - 1):
        raise ValueError("threads must be a power of two")
    return float(np.sum(x))
