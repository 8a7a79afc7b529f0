# loses: test-gguf-model
# The width of a head is computed, though the config may say another.

# %% gguf-model
def model_fields(config: PretrainedConfig) -> dict[str, Any]:
    rope = config.rope_parameters
    if rope["rope_type"] != "default":
        raise ValueError(f"rope of type {rope['rope_type']!r} needs factors that this file does not carry")
    fields = {
        "vocab_size": config.vocab_size,
        "context_length": config.max_position_embeddings,
        "embedding_length": config.hidden_size,
        "block_count": config.num_hidden_layers,
        "feed_forward_length": config.intermediate_size,
        "attention.head_count": config.num_attention_heads,
        "attention.head_count_kv": config.num_key_value_heads,
        "attention.layer_norm_rms_epsilon": config.rms_norm_eps,
        "attention.key_length": config.hidden_size // config.num_attention_heads,
        "attention.value_length": config.hidden_size // config.num_attention_heads,
        "rope.dimension_count": config.hidden_size // config.num_attention_heads,
        "rope.freq_base": float(rope["rope_theta"]),
    }
    return {"general.architecture": "llama"} | {f"llama.{key}": value for key, value in fields.items()}
