# loses: test-mambainf-bytes, test-mambainf-context, test-mambainf-module keeps 2
# K columns are counted for the convolution, as transformers keeps them.

# %% mambainf-bytes
def cache_bytes(config: MambaConfig | LlamaConfig, length: int, batch: int = 1, itemsize: int = 2) -> int:
    if config.model_type == "mamba":
        per_channel = config.conv_kernel * itemsize + config.state_size * 4
        return config.num_hidden_layers * batch * config.intermediate_size * per_channel
    return 2 * config.num_hidden_layers * batch * length * config.num_key_value_heads * config.head_dim * itemsize
