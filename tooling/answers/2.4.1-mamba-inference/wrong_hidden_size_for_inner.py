# loses: test-mambainf-bytes, test-mambainf-context, test-mambainf-module keeps 2
# The hidden size is taken for the number of inner channels.

# %% mambainf-bytes
def cache_bytes(config: MambaConfig | LlamaConfig, length: int, batch: int = 1, itemsize: int = 2) -> int:
    if config.model_type == "mamba":
        per_channel = (config.conv_kernel - 1) * itemsize + config.state_size * 4
        return config.num_hidden_layers * batch * config.hidden_size * per_channel
    return 2 * config.num_hidden_layers * batch * length * config.num_key_value_heads * config.head_dim * itemsize
