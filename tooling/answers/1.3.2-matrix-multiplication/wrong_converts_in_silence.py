# loses: test-matmul-host keeps 4
# Other types are converted without a word.

# %% matmul-host
def matmul(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    a, b = a.astype(np.float32, copy=False), b.astype(np.float32, copy=False)
    if a.ndim != 2 or b.ndim != 2 or a.shape[1] != b.shape[0]:
        raise ValueError(f"matmul needs shapes (m, k) and (k, n), not {a.shape} and {b.shape}")
    m, n, k = a.shape[0], b.shape[1], a.shape[1]
    if 0 in (m, n, k):
        return np.zeros((m, n), np.float32)
    kernel, part = (register_matmul, BLOCK) if m >= BLOCK and n >= BLOCK else (tiled_matmul, TILE)
    if not b.flags.c_contiguous and b.T.flags.c_contiguous:
        kernel, part, b = transposed_matmul, TILE, b.T
    left, right = (cuda.to_device(np.ascontiguousarray(matrix)) for matrix in (a, b))
    product = cuda.device_array((m, n), np.float32)
    kernel[cover(m, n, part, part), (TILE, TILE)](left, right, product)
    return product.copy_to_host()
