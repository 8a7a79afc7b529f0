# Blelloch's two sweeps, padded to a power of two; a first state put into the first step; two tiles in turn, one barrier a round.

# %% scan-discretise
def discretise(delta, A, B, rule="zoh"):
    if rule not in ("zoh", "mamba"):
        raise ValueError(rule)
    rate = torch.einsum("bld,dn->bldn", delta, A)
    b = torch.einsum("bld,bln->bldn", delta, B)
    if rule == "zoh":
        safe = rate.masked_fill(rate == 0, 1)
        b = b * (safe.expm1() / safe).masked_fill(rate == 0, 1)
    return rate.exp(), b

# %% scan-loop
def sequential_scan(a, b, h0=None):
    if b.shape[1] == 0:
        return b.clone()
    states = [b[:, 0] if h0 is None else torch.addcmul(b[:, 0], a[:, 0], h0)]
    for keep, add in zip(a.unbind(1)[1:], b.unbind(1)[1:], strict=True):
        states.append(torch.addcmul(add, keep, states[-1]))
    return torch.stack(states, dim=1)

# %% scan-parallel
def combine(first, second):
    (a1, b1), (a2, b2) = first, second
    return a2 * a1, a2 * b1 + b2


def parallel_scan(a, b, operator=combine):
    n = a.shape[1]
    if n == 0:
        return a.clone(), b.clone()
    size = 1 << (n - 1).bit_length()
    rest = (a.shape[0], size - n, *a.shape[2:])
    level = torch.cat([a, a.new_ones(rest)], dim=1), torch.cat([b, b.new_zeros(rest)], dim=1)
    up = [level]
    while up[-1][0].shape[1] > 1:
        A, B = up[-1]
        up.append(operator((A[:, 0::2], B[:, 0::2]), (A[:, 1::2], B[:, 1::2])))
    before = torch.ones_like(up[-1][0]), torch.zeros_like(up[-1][1])  # exclusive: what comes before
    for A, B in reversed(up[:-1]):
        right = operator(before, (A[:, 0::2], B[:, 0::2]))
        before = tuple(torch.stack([x, y], dim=2).flatten(1, 2) for x, y in zip(before, right, strict=True))
    A, B = operator(before, level)
    return A[:, :n].contiguous(), B[:, :n].contiguous()

# %% scan-backward
def scan_backward(a, h, grad, h0=None):
    g_b = torch.empty_like(grad)
    g_b[:, -1] = grad[:, -1]
    if grad.shape[1] > 1:
        left, inner = parallel_scan(a[:, 1:].flip(1), grad[:, :-1].flip(1))
        g_b[:, :-1] = (inner + left * grad[:, -1:]).flip(1)
    g_a = torch.empty_like(g_b)
    g_a[:, 1:] = g_b[:, 1:] * h[:, :-1]
    g_a[:, 0] = 0 if h0 is None else g_b[:, 0] * h0
    return g_a, g_b, g_b[:, 0] * a[:, 0]

# %% scan-selective
def selective_scan(x, delta, A, B, C, D, chunk, h0=None):
    if chunk <= 0:
        raise ValueError("chunk")
    h0 = torch.zeros(x.shape[0], *A.shape, dtype=x.dtype) if h0 is None else h0
    pieces = [x[:, :0]]
    for parts in zip(*(t.split(chunk, dim=1) for t in (x, delta, B, C)), strict=True):
        if parts[0].shape[1] == 0:
            continue
        a, b = discretise(parts[1], A, parts[2], "mamba")
        b = torch.einsum("bldn,bld->bldn", b, parts[0])
        b = torch.cat([b[:, :1] + a[:, :1] * h0[:, None], b[:, 1:]], dim=1)
        h = parallel_scan(a, b)[1]
        pieces.append(torch.einsum("bldn,bln->bld", h, parts[3]) + D * parts[0])
        h0 = h[:, -1]
    return torch.cat(pieces, dim=1), h0

# %% scan-select
def select(u, x_proj, dt_weight, dt_bias):
    rank = dt_weight.shape[1]
    N = (len(x_proj) - rank) // 2
    step = nn.functional.linear(nn.functional.linear(u, x_proj[:rank]), dt_weight, dt_bias)
    return (nn.functional.softplus(step), nn.functional.linear(u, x_proj[rank : rank + N]),
            nn.functional.linear(u, x_proj[rank + N :]))

# %% scan-kernel
@cuda.jit
def scan_rows(a, b, h):
    tile = cuda.shared.array((2, 2, MAX_THREADS), float32)
    t = cuda.threadIdx.x
    r = cuda.blockIdx.x
    n = a.shape[1]
    width = cuda.blockDim.x
    carry = float32(0)
    now = 0
    first = 0
    while first < n:
        i = first + t
        if i < n:
            tile[now, 0, t] = a[r, i]
            tile[now, 1, t] = b[r, i]
        else:
            tile[now, 0, t] = 1
            tile[now, 1, t] = 0
        cuda.syncthreads()
        s = 1
        while s < width:
            mine_a = tile[now, 0, t]
            mine_b = tile[now, 1, t]
            if t >= s:
                mine_b = mine_a * tile[now, 1, t - s] + mine_b
                mine_a = mine_a * tile[now, 0, t - s]
            now = 1 - now
            tile[now, 0, t] = mine_a
            tile[now, 1, t] = mine_b
            cuda.syncthreads()
            s = s * 2
        if i < n:
            h[r, i] = tile[now, 0, t] * carry + tile[now, 1, t]
        carry = tile[now, 0, width - 1] * carry + tile[now, 1, width - 1]
        now = 1 - now
        cuda.syncthreads()
        first += width
