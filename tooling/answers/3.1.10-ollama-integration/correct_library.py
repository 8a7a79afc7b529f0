# By the libraries: the table of names of gguf, torch for rows and blocks, getattr for the config, a condition with a dash.

# %% gguf-merge
def merge_adapter(weights: Mapping[str, Tensor], adapter: Mapping[str, Tensor], scaling: float) -> dict[str, Tensor]:
    a = {k.replace(".lora_A", "").removeprefix("base_model.model."): v for k, v in adapter.items() if ".lora_A." in k}
    b = {k.replace(".lora_B", "").removeprefix("base_model.model."): v for k, v in adapter.items() if ".lora_B." in k}
    if (a.keys() ^ b.keys()) or (a.keys() - weights.keys()):
        raise ValueError(f"matrices without a partner or a layer: {sorted((a.keys() ^ b.keys()) | (a.keys() - weights.keys()))}")
    return {
        name: torch.addmm(w.float(), b[name].float(), a[name].float(), alpha=scaling).type_as(w) if name in a else w
        for name, w in weights.items()
    }

# %% gguf-tensors
def to_gguf_tensors(weights: Mapping[str, Tensor], heads: int, kv_heads: int) -> dict[str, np.ndarray]:
    table = gguf.get_tensor_name_map(gguf.MODEL_ARCH.LLAMA, 130)
    tensors = {}
    for name, weight in weights.items():
        base = table.get_name(name.removesuffix(".weight"))
        if base is None or not name.endswith(".weight"):
            raise ValueError(f"unknown name {name}")
        count = {"attn_q": heads, "attn_k": kv_heads}.get(base.split(".")[-1])
        w = weight.detach().float()
        if count:
            w = w.unflatten(0, (count, 2, -1)).transpose(1, 2).flatten(0, 2)
        tensors[base + ".weight"] = w.contiguous().numpy()
    return tensors

# %% gguf-q8
def quantize_q8_0(x: np.ndarray) -> np.ndarray:
    if x.shape[-1] % 32:
        raise ValueError("not a multiple of 32 columns")
    blocks = torch.tensor(np.array(x, dtype=np.float32)).reshape(-1, 32)
    d = blocks.abs().amax(1, keepdim=True) / 127
    if not bool(torch.isfinite(d).all()) or bool((d > 65504).any()):
        raise ValueError("no float16 scale for these values")
    y = blocks * torch.where(d > 0, 1 / d, torch.zeros(()))
    q = (y.abs() + 0.5).floor() * y.sign()
    out = np.zeros((len(blocks), 34), dtype=np.uint8)
    out[:, :2] = d.half().numpy().view(np.uint8)
    out[:, 2:] = q.to(torch.int8).numpy().view(np.uint8)
    return out.reshape(*x.shape[:-1], -1 if len(out) else x.shape[-1] // 32 * 34)

# %% gguf-model
def model_fields(config: PretrainedConfig) -> dict[str, Any]:
    rope = config.rope_parameters
    if rope.get("rope_type", "default") != "default":
        raise ValueError("only plain RoPE")
    llm, attention, names = gguf.Keys.LLM, gguf.Keys.Attention, gguf.Keys.Rope
    numbers = {
        llm.VOCAB_SIZE: "vocab_size", llm.CONTEXT_LENGTH: "max_position_embeddings", llm.EMBEDDING_LENGTH: "hidden_size",
        llm.BLOCK_COUNT: "num_hidden_layers", llm.FEED_FORWARD_LENGTH: "intermediate_size", attention.HEAD_COUNT: "num_attention_heads",
        attention.HEAD_COUNT_KV: "num_key_value_heads", attention.LAYERNORM_RMS_EPS: "rms_norm_eps", attention.KEY_LENGTH: "head_dim",
        attention.VALUE_LENGTH: "head_dim", names.DIMENSION_COUNT: "head_dim",
    }
    out = {key.format(arch="llama"): getattr(config, field) for key, field in numbers.items()}
    return out | {"general.architecture": "llama", "llama.rope.freq_base": 1.0 * rope["rope_theta"], "general.name": "tiny"}

# %% gguf-tokenizer
def tokenizer_fields(tokenizer: PreTrainedTokenizerBase, size: int) -> dict[str, Any]:
    vocab = {k: text for text, k in tokenizer.get_vocab().items()}
    if max(vocab) >= size:
        raise ValueError(f"{len(vocab)} tokens do not fit into {size} rows")
    tokens, types = [], []
    for k in range(size):
        tokens.append(vocab.get(k, f"[PAD{k}]"))
        extra = tokenizer.added_tokens_decoder.get(k)
        types.append(5 if k not in vocab else 1 if extra is None else 3 if extra.special else 4)
    merges = [" ".join(pair) for pair in json.loads(tokenizer.backend_tokenizer.to_str())["model"]["merges"]]
    begins = tokenizer("")["input_ids"] == [tokenizer.bos_token_id]
    words = {"model": "gpt2", "pre": "gpt-2", "tokens": tokens, "token_type": types, "merges": merges, "add_bos_token": begins}
    words |= {"bos_token_id": tokenizer.bos_token_id, "eos_token_id": tokenizer.eos_token_id, "padding_token_id": tokenizer.pad_token_id}
    out = {"tokenizer.chat_template": tokenizer.chat_template}
    out.update((f"tokenizer.ggml.{key}", value) for key, value in words.items())
    return out

# %% gguf-header
def read_header(data: bytes) -> dict[str, Any]:
    cursor = Cursor(data)

    def need(good, message):
        if not good:
            raise ValueError(message)

    need(cursor.take(4) == b"GGUF", "magic")
    need(cursor.number("I") == 3, "version")
    tensors, fields = {}, {}
    count, more = cursor.number("Q"), cursor.number("Q")
    while more > 0:
        key = read_value(cursor, 8)
        need(key not in fields, f"{key} twice")
        fields[key], more = read_value(cursor, cursor.number("I")), more - 1
    while len(tensors) < count:
        name, axes, shape = read_value(cursor, 8), cursor.number("I"), ()
        need(name not in tensors, f"{name} twice")
        while axes > 0:
            shape, axes = (cursor.number("Q"), *shape), axes - 1
        tensors[name] = (shape, cursor.number("I"), cursor.number("Q"))
    alignment = fields.get("general.alignment", 32)
    need(type(alignment) is int and alignment in {2**k for k in range(32)}, "alignment")
    start = cursor.at + (-cursor.at) % alignment
    for name, (shape, kind, offset) in tensors.items():
        need(kind in (0, 1, 8), f"tensor type {kind} of {name}")
        need(offset % alignment == 0, f"offset {offset} of {name}")
        need(kind != 8 or (len(shape) > 0 and shape[-1] % 32 == 0), f"block of {name}")
        block, size = gguf.GGML_QUANT_SIZES[gguf.GGMLQuantizationType(kind)]
        need(start + offset + math.prod(shape) * size // block <= len(data), f"truncated data of {name}")
    return {"fields": fields, "tensors": tensors, "data_start": start}

# %% gguf-modelfile
def modelfile(file: str, system: str, stops: Sequence[str], context: int) -> str:
    if context <= 0 or '"""' in system + '""' * system.endswith('"') or [stop for stop in stops if set(stop) & {'"', "\n"}]:
        raise ValueError("context, system message or stop")
    template = """{{- if .System }}<|im_start|>system
{{ .System }}<|im_end|>
{{ end }}{{ if .Prompt }}<|im_start|>user
{{ .Prompt }}<|im_end|>
{{ end }}<|im_start|>assistant
{{ .Response }}<|im_end|>
"""
    lines = [f"FROM ./{file}", *[f'PARAMETER stop "{stop}"' for stop in stops], f"PARAMETER num_ctx {context}"]
    lines.append('TEMPLATE """' + template + '"""')
    if system:
        lines.append('SYSTEM """' + system + '"""')
    return "\n".join([*lines, ""])
