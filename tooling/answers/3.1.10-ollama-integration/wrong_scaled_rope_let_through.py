# loses: test-gguf-model
# Scaled RoPE is written as if it were not.

# %% gguf-model
def model_fields(config: PretrainedConfig) -> dict[str, Any]:
    rope = config.rope_parameters
    fields = {
        "vocab_size": config.vocab_size,
        "context_length": config.max_position_embeddings,
        "embedding_length": config.hidden_size,
        "block_count": config.num_hidden_layers,
        "feed_forward_length": config.intermediate_size,
        "attention.head_count": config.num_attention_heads,
        "attention.head_count_kv": config.num_key_value_heads,
        "attention.layer_norm_rms_epsilon": config.rms_norm_eps,
        "attention.key_length": config.head_dim,
        "attention.value_length": config.head_dim,
        "rope.dimension_count": config.head_dim,
        "rope.freq_base": float(rope["rope_theta"]),
    }
    return {"general.architecture": "llama"} | {f"llama.{key}": value for key, value in fields.items()}
