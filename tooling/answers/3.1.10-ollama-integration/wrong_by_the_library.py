# loses: test-gguf-q8
# The library does it.

# %% gguf-q8
def quantize_q8_0(x: np.ndarray) -> np.ndarray:
    return gguf.quants.quantize(np.ascontiguousarray(x), gguf.GGMLQuantizationType.Q8_0)
