# loses: test-gguf-q8, test-gguf-write
# One scale serves a whole row.

# %% gguf-q8
def quantize_q8_0(x: np.ndarray) -> np.ndarray:
    if x.shape[-1] % 32:
        raise ValueError("the number of columns is no multiple of 32")
    blocks = np.ascontiguousarray(x).reshape(-1, 32)
    scale = np.repeat(np.abs(x).max(axis=-1).reshape(-1), x.shape[-1] // 32)[:, None] / 127
    if not (scale <= 65504).all():
        raise ValueError("a value is not finite, or too large for a float16 scale")
    scaled = blocks * (1 / np.where(scale > 0, scale, 1))
    integers = np.trunc(scaled + np.copysign(0.5, scaled)).astype(np.int8)
    joined = np.concatenate([scale.astype(np.float16).view(np.uint8), integers.view(np.uint8)], axis=1)
    return joined.reshape(*x.shape[:-1], x.shape[-1] // 32 * 34)
