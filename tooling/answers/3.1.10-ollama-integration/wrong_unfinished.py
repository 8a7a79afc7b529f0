# loses: test-gguf-merge, test-gguf-tensors, test-gguf-q8, test-gguf-model, test-gguf-tokenizer, test-gguf-write, test-gguf-value, test-gguf-header, test-gguf-faults, test-gguf-modelfile, test-gguf-module
# Nothing was begun.

# %% gguf-merge
# untouched

# %% gguf-tensors
# untouched

# %% gguf-q8
# untouched

# %% gguf-model
# untouched

# %% gguf-tokenizer
# untouched

# %% gguf-write
# untouched

# %% gguf-value
# untouched

# %% gguf-header
# untouched

# %% gguf-modelfile
# untouched
