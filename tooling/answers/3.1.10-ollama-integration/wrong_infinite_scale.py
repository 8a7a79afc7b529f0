# loses: test-gguf-q8
# Values that no float16 scale can hold are let through.

# %% gguf-q8
def quantize_q8_0(x: np.ndarray) -> np.ndarray:
    if x.shape[-1] % 32:
        raise ValueError(f"{x.shape[-1]} columns are no multiple of 32")
    blocks = np.ascontiguousarray(x).reshape(-1, 32)
    scale = np.abs(blocks).max(axis=1, keepdims=True) / np.float32(127)
    inverse = 1 / np.where(scale == 0, np.float32(1), scale)
    scaled = blocks * inverse
    integers = np.trunc(scaled + np.copysign(np.float32(0.5), scaled)).astype(np.int8)
    joined = np.concatenate([scale.astype(np.float16).view(np.uint8), integers.view(np.uint8)], axis=1)
    return joined.reshape(*x.shape[:-1], x.shape[-1] // 32 * 34)
