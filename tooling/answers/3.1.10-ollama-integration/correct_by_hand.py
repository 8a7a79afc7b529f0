# By hand: loops for rows and blocks, a file packed with struct instead of GGUFWriter, a parser with if after if.

# %% gguf-merge
def merge_adapter(weights: Mapping[str, Tensor], adapter: Mapping[str, Tensor], scaling: float) -> dict[str, Tensor]:
    merged, left = {}, dict(adapter)
    for name, weight in weights.items():
        key = "base_model.model." + name[: -len(".weight")]
        pair = [left.pop(f"{key}.lora_A.weight", None), left.pop(f"{key}.lora_B.weight", None)]
        if pair.count(None) == 1:
            raise ValueError(f"{name} has one matrix only")
        if pair[0] is None:
            merged[name] = weight
            continue
        a, b = (m.float() for m in pair)
        update = sum(torch.outer(b[:, r], a[r]) for r in range(len(a)))
        merged[name] = (weight.float() + update * scaling).to(weight.dtype)
    if left:
        raise ValueError(f"no weight for {sorted(left)}")
    return merged

# %% gguf-tensors
PARTS = {
    "input_layernorm": "attn_norm", "post_attention_layernorm": "ffn_norm", "self_attn.q_proj": "attn_q", "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v", "self_attn.o_proj": "attn_output", "mlp.gate_proj": "ffn_gate", "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
}


def new_name(name):
    outer = {"model.embed_tokens.weight": "token_embd.weight", "model.norm.weight": "output_norm.weight", "lm_head.weight": "output.weight"}
    if name in outer:
        return outer[name]
    words = name.split(".")
    if words[:2] == ["model", "layers"] and len(words) > 4 and words[2].isdigit() and words[-1] == "weight":
        part = PARTS.get(".".join(words[3:-1]))
        if part:
            return f"blk.{words[2]}.{part}.weight"
    raise ValueError(f"unknown tensor {name}")


def to_gguf_tensors(weights: Mapping[str, Tensor], heads: int, kv_heads: int) -> dict[str, np.ndarray]:
    out = {}
    for name, weight in weights.items():
        array = weight.to(torch.float32).numpy().copy()
        fresh = new_name(name)
        for kind, count in (("attn_q", heads), ("attn_k", kv_heads)):
            if f".{kind}." in fresh:
                width = len(array) // count
                order = [h * width + i + j * (width // 2) for h in range(count) for i in range(width // 2) for j in range(2)]
                array = array[order]
        out[fresh] = array
    return out

# %% gguf-q8
def quantize_q8_0(x: np.ndarray) -> np.ndarray:
    columns = x.shape[-1]
    if columns % 32 != 0:
        raise ValueError("rows are not made of blocks of 32")
    if not np.isfinite(x).all() or (x.size and np.abs(x).max() > 127 * 65504.0):
        raise ValueError("values are not finite or too large")
    rows = np.array(x, dtype=np.float32).reshape(-1, columns)
    out = np.zeros((len(rows), columns // 32 * 34), dtype=np.uint8)
    for r, row in enumerate(rows):
        for b in range(columns // 32):
            part = row[32 * b : 32 * b + 32]
            d = np.float32(np.abs(part).max()) / np.float32(127)
            if d == 0:
                continue
            y = part * (np.float32(1) / d)
            q = np.where(y < 0, np.ceil(y - np.float32(0.5)), np.floor(y + np.float32(0.5))).astype(np.int8)
            out[r, 34 * b : 34 * b + 34] = np.frombuffer(np.float16(d).tobytes() + q.tobytes(), dtype=np.uint8)
    return out.reshape(*x.shape[:-1], -1) if out.size else out.reshape(*x.shape[:-1], columns // 32 * 34)

# %% gguf-write
def write_gguf(path: Path, fields: Mapping[str, Any], tensors: Mapping[str, np.ndarray], kind: str) -> None:
    if kind not in ("F32", "F16", "Q8_0"):
        raise ValueError(f"unknown kind {kind}")

    def text(value):
        return struct.pack("<Q", len(value.encode())) + value.encode()

    def element(value):
        if isinstance(value, str):
            return 8, text(value)
        return (6, struct.pack("<f", value)) if isinstance(value, float) else (5, struct.pack("<i", value))

    def packed_field(value):
        if isinstance(value, bool):
            return struct.pack("<I?", 7, value)
        if isinstance(value, int):
            return struct.pack("<II", 4, value)
        if isinstance(value, list):
            parts = [element(v) for v in value]
            return struct.pack("<IIQ", 9, parts[0][0], len(parts)) + b"".join(data for _, data in parts)
        number, data = element(value)
        return struct.pack("<I", number) + data

    everything = dict(fields) | {"general.file_type": {"F32": 0, "F16": 1, "Q8_0": 7}[kind], "general.quantization_version": 2}
    head = b"".join(text(key) + packed_field(value) for key, value in everything.items())
    data = b""
    for name, x in tensors.items():
        number, raw = 0, x.astype("<f4").tobytes()
        if x.ndim > 1 and kind != "F32":
            if kind == "Q8_0" and x.shape[-1] % 32 == 0:
                number, raw = 8, quantize_q8_0(x).tobytes()
            elif np.isfinite(x).all() and (np.abs(x) <= 65504).all():
                number, raw = 1, x.astype("<f2").tobytes()
            else:
                raise ValueError(f"{name} does not fit into float16")
        head += text(name) + struct.pack(f"<I{x.ndim}QIQ", x.ndim, *x.shape[::-1], number, len(data))
        data += raw + bytes(-len(raw) % 32)
    head = struct.pack("<4sIQQ", b"GGUF", 3, len(tensors), len(everything)) + head
    path.write_bytes(head + bytes(-len(head) % 32) + data)

# %% gguf-value
def read_value(cursor: Cursor, kind: int) -> Any:
    simple = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
    if kind in simple:
        return cursor.number(simple[kind])
    if kind == 8:
        size = cursor.number("Q")
        return str(cursor.take(size), "utf-8")
    if kind != 9:
        raise ValueError(f"{kind} is not a known value type")
    inner = cursor.number("I")
    if inner == 9:
        raise ValueError("nested arrays are not for this parser")
    left, values = cursor.number("Q"), []
    while left:
        values.append(read_value(cursor, inner))
        left -= 1
    return values
