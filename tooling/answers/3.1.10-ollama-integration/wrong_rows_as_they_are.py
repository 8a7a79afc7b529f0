# loses: test-gguf-tensors keeps 2, test-gguf-module
# No rows are reordered: RoPE by halves is taken for RoPE by neighbours.

# %% gguf-tensors
def to_gguf_tensors(weights: Mapping[str, Tensor], heads: int, kv_heads: int) -> dict[str, np.ndarray]:
    table = {"model.embed_tokens": "token_embd", "model.norm": "output_norm", "lm_head": "output"}
    inner = {"input_layernorm": "attn_norm", "post_attention_layernorm": "ffn_norm", "self_attn.o_proj": "attn_output"}
    inner |= {f"self_attn.{kind}_proj": f"attn_{kind}" for kind in "qkv"}
    inner |= {f"mlp.{kind}_proj": f"ffn_{kind}" for kind in ("gate", "up", "down")}
    tensors = {}
    for name, weight in weights.items():
        found = re.fullmatch(r"model\.layers\.(\d+)\.(.+)\.weight", name)
        short = found[2] if found else name.removesuffix(".weight")
        if short not in (inner if found else table) or not name.endswith(".weight"):
            raise ValueError(f"no name in GGUF for {name}")
        array = weight.float().numpy()
        if short in ("self_attn.q_proj", "self_attn.k_proj"):
            count = heads if short == "self_attn.q_proj" else kv_heads
            array = array.reshape(count, 2, -1, array.shape[1]).reshape(array.shape)
        tensors[f"blk.{found[1]}.{inner[short]}.weight" if found else f"{table[short]}.weight"] = array
    return tensors
