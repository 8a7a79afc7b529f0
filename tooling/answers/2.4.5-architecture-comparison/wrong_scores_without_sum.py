# loses: test-archcmp-flops
# Scores are counted, the weighted sum of values is not.

# %% archcmp-flops
def flops_per_token(config: JambaConfig, context: int) -> int:
    H, D, N, R = config.hidden_size, config.mamba_expand * config.hidden_size, config.mamba_d_state, config.mamba_dt_rank
    kv_width = H // config.num_attention_heads * config.num_key_value_heads
    products = H * config.vocab_size
    for kind, experts in zip(config.layers_block_type, config.layers_num_experts, strict=True):
        if kind == "attention":
            products += 2 * H * (H + kv_width) + context * H
        else:
            products += D * (3 * H + 2 * R + 3 * N + config.mamba_d_conv)
        products += 3 * H * config.intermediate_size * min(experts, config.num_experts_per_tok)
        products += H * experts if experts > 1 else 0
    return 2 * products
