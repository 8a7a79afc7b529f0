# loses: test-gguf-q8
# A block of zeros divides by zero.

# %% gguf-q8
def quantize_q8_0(x: np.ndarray) -> np.ndarray:
    if x.shape[-1] % 32:
        raise ValueError("the number of columns is no multiple of 32")
    blocks = np.ascontiguousarray(x).reshape(-1, 32)
    scale = np.abs(blocks).max(axis=1, keepdims=True) / 127
    if not (scale <= 65504).all():
        raise ValueError("a value is not finite, or too large for a float16 scale")
    scaled = blocks * (1 / scale)
    integers = np.trunc(scaled + np.copysign(0.5, scaled)).astype(np.int8)
    joined = np.concatenate([scale.astype(np.float16).view(np.uint8), integers.view(np.uint8)], axis=1)
    return joined.reshape(*x.shape[:-1], x.shape[-1] // 32 * 34)
