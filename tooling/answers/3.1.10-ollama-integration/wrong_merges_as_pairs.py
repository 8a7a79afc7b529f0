# loses: test-gguf-tokenizer, test-gguf-module
# Merges are joined without a space.

# %% gguf-tokenizer
def tokenizer_fields(tokenizer: PreTrainedTokenizerBase, size: int) -> dict[str, Any]:
    if len(tokenizer) > size:
        raise ValueError("the tokenizer has more tokens than the model has rows")
    added = {k: 3 if token.special else 4 for k, token in tokenizer.added_tokens_decoder.items()}
    known = range(len(tokenizer))
    pairs = json.loads(tokenizer.backend_tokenizer.to_str())["model"]["merges"]
    fields = {
        "model": "gpt2",
        "pre": "gpt-2",
        "tokens": [tokenizer.convert_ids_to_tokens(k) if k in known else f"[PAD{k}]" for k in range(size)],
        "token_type": [added.get(k, 1) if k in known else 5 for k in range(size)],
        "merges": ["".join(pair) for pair in pairs],
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
        "padding_token_id": tokenizer.pad_token_id,
        "add_bos_token": tokenizer("x")["input_ids"][0] == tokenizer.bos_token_id,
    }
    fields = {f"tokenizer.ggml.{key}": value for key, value in fields.items()}
    return fields | {"tokenizer.chat_template": tokenizer.chat_template}
