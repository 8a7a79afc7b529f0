# loses: test-mambainf-mixer keeps 3
# Outputs are stacked, which fails for an empty chunk.

# %% mambainf-mixer
def mixer_chunk(
    mixer: modeling_mamba.MambaMixer, hidden: Tensor, cache: LayerCache
) -> tuple[Tensor, LayerCache]:
    x, gate = mixer.in_proj(hidden).chunk(2, dim=2)
    x, conv = conv_chunk(x.mT, cache.conv, mixer.conv1d.weight.squeeze(1), mixer.conv1d.bias)
    x = silu(x).mT
    sizes = [mixer.time_step_rank, mixer.ssm_state_size, mixer.ssm_state_size]
    low_rank, B, C = mixer.x_proj(x).split(sizes, dim=2)
    delta, A = softplus(mixer.dt_proj(low_rank)), -torch.exp(mixer.A_log.to(cache.ssm.dtype))
    outputs, state = [], cache.ssm
    for t in range(x.shape[1]):
        out, state = ssm_step(x[:, t], delta[:, t], A, B[:, t], C[:, t], mixer.D, state)
        outputs.append(out)
    y = torch.stack(outputs, dim=1)
    return mixer.out_proj(y * silu(gate)), LayerCache(conv, state)
