# loses: test-gguf-metadata keeps 3
# The width of a head is computed, though the config may say another.

# %% gguf-metadata
def metadata(config: PretrainedConfig, tokenizer: PreTrainedTokenizerBase) -> dict[str, Any]:
    rope, size = config.rope_parameters, config.vocab_size
    if rope["rope_type"] != "default":
        raise ValueError(f"rope of type {rope['rope_type']!r} needs factors that this file does not carry")
    if len(tokenizer) > size:
        raise ValueError(f"the tokenizer has {len(tokenizer)} tokens, the model {size}")
    added = {k: 3 if token.special else 4 for k, token in tokenizer.added_tokens_decoder.items()}
    known = range(len(tokenizer))
    pairs = json.loads(tokenizer.backend_tokenizer.to_str())["model"]["merges"]
    model = {
        "vocab_size": size,
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
        "rope.freq_base": rope["rope_theta"],
    }
    words = {
        "model": "gpt2",
        "pre": "gpt-2",
        "tokens": [tokenizer.convert_ids_to_tokens(k) if k in known else f"[PAD{k}]" for k in range(size)],
        "token_type": [added.get(k, 1) if k in known else 5 for k in range(size)],
        "merges": [" ".join(pair) for pair in pairs],
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
        "padding_token_id": tokenizer.pad_token_id,
        "add_bos_token": tokenizer("x")["input_ids"][0] == tokenizer.bos_token_id,
    }
    fields = {"general.architecture": "llama"} | {f"llama.{key}": value for key, value in model.items()}
    fields |= {f"tokenizer.ggml.{key}": value for key, value in words.items()}
    return fields | {"tokenizer.chat_template": tokenizer.chat_template}
