# The convolution by conv1d on windows, the step by einsum, recurrence outputs in a list, cache sizes by adding up shapes.

# %% mambainf-conv
def conv_chunk(x: Tensor, state: Tensor, weight: Tensor, bias: Tensor) -> tuple[Tensor, Tensor]:
    taps = weight.shape[1]
    if tuple(state.shape) != (*x.shape[:2], taps - 1):
        raise ValueError("the state does not fit")
    joined = torch.cat([state, x], dim=2)
    kept = joined[:, :, joined.shape[2] - taps + 1 :].contiguous().clone()
    if x.shape[2] == 0:
        return x.clone(), kept
    return conv1d(joined, weight.unsqueeze(1), bias, groups=x.shape[1]), kept

# %% mambainf-step
def ssm_step(
    x: Tensor, delta: Tensor, A: Tensor, B: Tensor, C: Tensor, D: Tensor, state: Tensor
) -> tuple[Tensor, Tensor]:
    exact = state.dtype
    decay = torch.einsum("bc,cn->bcn", delta.to(exact), A.to(exact)).exp()
    new = decay.mul(state).add(torch.einsum("bc,bc,bn->bcn", delta.to(exact), x.to(exact), B.to(exact)))
    y = torch.einsum("bcn,bn->bc", new, C.to(exact)).add(D.to(exact) * x.to(exact))
    return y.to(x.dtype), new

# %% mambainf-mixer
def mixer_chunk(
    mixer: modeling_mamba.MambaMixer, hidden: Tensor, cache: LayerCache
) -> tuple[Tensor, LayerCache]:
    inner, n = mixer.A_log.shape
    both = mixer.in_proj(hidden).transpose(1, 2)
    x, conv = conv_chunk(both[:, :inner], cache.conv, mixer.conv1d.weight.squeeze(1), mixer.conv1d.bias)
    x, gate = mixer.act(x), both[:, inner:].transpose(1, 2)
    A, state = mixer.A_log.exp().neg(), cache.ssm.clone()
    outputs = []
    for column in x.unbind(dim=2):
        mixed = mixer.x_proj(column)
        delta = torch.log1p(mixer.dt_proj(mixed[:, : -2 * n]).exp())
        y, state = ssm_step(column, delta, A, mixed[:, -2 * n : -n], mixed[:, -n:], mixer.D, state)
        outputs.append(y)
    y = torch.stack(outputs, dim=1) if outputs else gate
    return mixer.out_proj(y * gate * torch.sigmoid(gate)), LayerCache(conv, state)

# %% mambainf-bytes
def cache_bytes(config: MambaConfig | LlamaConfig, length: int, batch: int = 1, itemsize: int = 2) -> int:
    if config.model_type == "mamba":
        conv = torch.Size([batch, config.intermediate_size, config.conv_kernel - 1]).numel()
        ssm = torch.Size([batch, config.intermediate_size, config.state_size]).numel()
        layer = conv * itemsize + ssm * torch.float32.itemsize
    else:
        rows = torch.Size([batch, config.num_key_value_heads, length, config.head_dim]).numel()
        layer = (rows + rows) * itemsize
    return sum(layer for _ in range(config.num_hidden_layers))
