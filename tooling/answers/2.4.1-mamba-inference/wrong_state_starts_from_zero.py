# loses: test-mambainf-mixer keeps 3, test-mambainf-model keeps 1, test-mambainf-module
# Each chunk starts its recurrence from zeros, as transformers' slow path does.

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
    y, state = torch.empty_like(x), torch.zeros_like(cache.ssm)
    for t in range(x.shape[1]):
        y[:, t], state = ssm_step(x[:, t], delta[:, t], A, B[:, t], C[:, t], mixer.D, state)
    return mixer.out_proj(y * silu(gate)), LayerCache(conv, state)
