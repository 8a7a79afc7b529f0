# loses: test-matmul-host keeps 4
# An empty product is launched, on a grid without blocks.

# %% matmul-host
def matmul(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    if a.dtype != np.float32 or b.dtype != np.float32:
        raise TypeError(f"matmul takes float32 and float32, not {a.dtype} and {b.dtype}; convert with astype")
    if a.ndim != 2 or b.ndim != 2 or a.shape[1] != b.shape[0]:
        raise ValueError(f"matmul needs shapes (m, k) and (k, n), not {a.shape} and {b.shape}")
    m, n, k = a.shape[0], b.shape[1], a.shape[1]
    kernel, part = (register_matmul, BLOCK) if m >= BLOCK and n >= BLOCK else (tiled_matmul, TILE)
    if not b.flags.c_contiguous and b.T.flags.c_contiguous:
        kernel, part, b = transposed_matmul, TILE, b.T
    left, right = (cuda.to_device(np.ascontiguousarray(matrix)) for matrix in (a, b))
    product = cuda.device_array((m, n), np.float32)
    kernel[cover(m, n, part, part), (TILE, TILE)](left, right, product)
    return product.copy_to_host()
