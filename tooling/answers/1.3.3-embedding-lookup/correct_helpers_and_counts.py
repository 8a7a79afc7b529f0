# A device function for row and column, bincount for the segments, the first row as the first sum, setup_context.

# %% embed-by-element
@cuda.jit(device=True)
def place_of(element, columns):
    row = element // columns
    return row, element - row * columns


@cuda.jit
def lookup_by_element(tokens, table, out):
    for element in range(cuda.grid(1), tokens.size * table.shape[1], cuda.gridsize(1)):
        row, column = place_of(element, table.shape[1])
        token = tokens[row]
        out[row, column] = table[token, column]

# %% embed-lookup
def word_for(table):
    return torch.int64 if (table.data_ptr() | 4 * table.shape[1]) % 8 == 0 else torch.float32


def lookup(tokens, table):
    if str(tokens.dtype) not in ("torch.int32", "torch.int64"):
        raise TypeError(f"cannot look up {tokens.dtype}")
    if tokens.dim() != 2:
        raise ValueError(f"expected (B, T), got {tuple(tokens.shape)}")
    for b, row in enumerate(tokens.tolist()):
        for t, token in enumerate(row):
            if not 0 <= token < len(table):
                raise IndexError(f"token {token} at {(b, t)} is outside of a table of {len(table)} rows")
    source = table.detach().contiguous()
    out = torch.zeros(*tokens.shape, table.shape[1], device=table.device)
    if not out.numel():
        return out
    word = word_for(source)
    into = out.view(tokens.numel(), -1).view(word)
    blocks = -(-into.numel() // THREADS)
    lookup_by_element[blocks, THREADS](on_device(tokens.flatten()), on_device(source.view(word)), on_device(into))
    return out

# %% embed-scatter
@cuda.jit
def scatter_add(tokens, grad, padding, table_grad):
    for element in range(cuda.grid(1), grad.size, cuda.gridsize(1)):
        row, column = place_of(element, grad.shape[1])
        if tokens[row] != padding:
            cuda.atomic.add(table_grad, (tokens[row], column), grad[row, column])

# %% embed-segments
def segments(tokens, padding):
    flat = tokens.flatten().long().cpu().numpy()
    counts = np.bincount(flat, minlength=1)
    order = np.argsort(flat, kind="stable")
    if padding is not None:
        order = order[flat[order] != padding]
        if 0 <= padding < counts.size:
            counts[padding] = 0
    ids = np.flatnonzero(counts)
    starts = np.concatenate([[0], np.cumsum(counts[ids])])
    return tuple(torch.from_numpy(part.astype(np.int64)).to(tokens.device) for part in (ids, starts, order))

# %% embed-segment-sum
@cuda.jit
def segment_sum(ids, starts, order, grad, table_grad):
    for place in range(cuda.grid(1), ids.size * grad.shape[1], cuda.gridsize(1)):
        segment, column = place_of(place, grad.shape[1])
        begin = starts[segment]
        total = grad[order[begin], column]
        for k in range(begin + 1, starts[segment + 1]):
            total += grad[order[k], column]
        table_grad[ids[segment], column] = total

# %% embed-function
class EmbeddingLookup(torch.autograd.Function):
    @staticmethod
    def forward(tokens, table, padding_idx):
        return lookup(tokens, table)

    @staticmethod
    def setup_context(ctx, inputs, output):
        tokens, table, ctx.padding_idx = inputs
        ctx.shape = table.shape
        ctx.save_for_backward(tokens)

    @staticmethod
    def backward(ctx, grad):
        tokens = ctx.saved_tensors[0]
        index = segments(tokens, ctx.padding_idx)
        result = torch.zeros(ctx.shape, device=grad.device)
        sums = len(index[0]) * ctx.shape[1]
        if sums:
            rows = torch.stack([row for sequence in grad for row in sequence])
            segment_sum[-(-sums // 64), 64](*(on_device(part) for part in (*index, rows, result)))
        return None, result, None
