# loses: test-gguf-merge, test-gguf-tensors, test-gguf-q8, test-gguf-metadata, test-gguf-write, test-gguf-value, test-gguf-header, test-gguf-faults, test-gguf-modelfile, test-gguf-module
# Nothing was begun.

# %% gguf-merge
# untouched

# %% gguf-tensors
# untouched

# %% gguf-q8
# untouched

# %% gguf-metadata
# untouched

# %% gguf-write
# untouched

# %% gguf-value
# untouched

# %% gguf-header
# untouched

# %% gguf-modelfile
# untouched
