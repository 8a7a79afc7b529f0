# loses: test-archcmp-parameters keeps 1, test-archcmp-report keeps 2
# The router is left out.

# %% archcmp-parameters
def parameters(config: JambaConfig, active: bool = False) -> int:
    H, D, N, R = config.hidden_size, config.mamba_expand * config.hidden_size, config.mamba_d_state, config.mamba_dt_rank
    shared = config.num_key_value_heads * (H // config.num_attention_heads)
    mixers = {"attention": 2 * H * H + 2 * H * shared}
    mixers["mamba"] = 2 * H * D + D * (config.mamba_d_conv + 1) + D * (R + 2 * N) + R * D + D + D * N + D + D * H + R + 2 * N
    total = config.vocab_size * H * (1 if config.tie_word_embeddings else 2) + H
    for kind, experts in zip(config.layers_block_type, config.layers_num_experts, strict=True):
        visited = min(experts, config.num_experts_per_tok) if active else experts
        total += mixers[kind] + 2 * H + visited * 3 * H * config.intermediate_size
        if experts > 1:
            pass
    return total
