# While loops, row and column carried along, searchsorted for the segments, a gradient handed on by a helper.

# %% embed-by-row
@cuda.jit
def lookup_by_row(tokens, table, out):
    n = cuda.blockIdx.x * cuda.blockDim.x + cuda.threadIdx.x
    if n >= out.shape[0]:
        return
    column = 0
    while column < out.shape[1]:
        out[n, column] = table[tokens[n], column]
        column += 1

# %% embed-by-element
@cuda.jit
def lookup_by_element(tokens, table, out):
    columns, step = out.shape[1], cuda.gridsize(1)
    row, column = divmod(cuda.grid(1), columns)
    while row < out.shape[0]:
        out[row, column] = table[tokens[row], column]
        row += step // columns
        column += step % columns
        if column >= columns:
            column -= columns
            row += 1

# %% embed-lookup
def lookup(tokens: torch.Tensor, table: torch.Tensor) -> torch.Tensor:
    if tokens.dtype != torch.int32 and tokens.dtype != torch.int64:
        raise TypeError(f"token ids are whole numbers, int32 or int64; these are {tokens.dtype}")
    if tokens.dim() != 2:
        raise ValueError(f"a batch of sequences has two dimensions, not {tokens.dim()}")
    ids, columns = tokens.contiguous().view(-1), table.size(1)
    wrong = torch.nonzero((ids < 0).logical_or(ids >= len(table))).view(-1)
    if len(wrong):
        place = int(wrong[0])
        where = divmod(place, tokens.size(1))
        raise IndexError(f"token {int(ids[place])} at {where} is outside of a table of {len(table)} rows")
    with torch.no_grad():
        source = table.contiguous().detach()
        result = source.new_empty((*tokens.shape, columns))
        if result.numel() == 0:
            return result
        flat = result.view(len(ids), columns)
        if columns % 2 or source.storage_offset() % 2:
            words, into = source, flat
        else:
            words, into = source.view(torch.float64), flat.view(torch.float64)
            words, into = words.view(torch.int64), into.view(torch.int64)
        blocks = (into.numel() + THREADS - 1) // THREADS
        lookup_by_element[blocks, THREADS](on_device(ids), on_device(words), on_device(into))
    return result

# %% embed-scatter
@cuda.jit
def scatter_add(tokens, grad, padding, table_grad):
    columns = grad.shape[1]
    element = cuda.grid(1)
    while element < grad.shape[0] * columns:
        row = element // columns
        if tokens[row] == padding:
            element += cuda.gridsize(1)
            continue
        column = element - row * columns
        cuda.atomic.add(table_grad, (tokens[row], column), grad[row, column])
        element += cuda.gridsize(1)

# %% embed-segments
def segments(tokens, padding):
    flat = tokens.reshape(-1).to(torch.int64)
    order = torch.argsort(flat, stable=True)
    values = flat[order]
    if padding is not None:
        order, values = order[values != padding], values[values != padding]
    ids = torch.unique(values)
    ends = torch.searchsorted(values, ids, right=True)
    return ids, torch.cat([ends.new_zeros(1), ends]), order

# %% embed-segment-sum
@cuda.jit
def segment_sum(ids, starts, order, grad, table_grad):
    columns = grad.shape[1]
    place = cuda.grid(1)
    while place < ids.size * columns:
        segment = place // columns
        column = place - segment * columns
        k, end, total = starts[segment], starts[segment + 1], float32(0)
        while k < end:
            total = total + grad[order[k], column]
            k += 1
        table_grad[ids[segment], column] = total
        place += cuda.gridsize(1)

# %% embed-function
def gradient_of_table(tokens, grad, rows, padding):
    columns = grad.shape[-1]
    result = grad.new_zeros((rows, columns))
    ids, starts, order = segments(tokens, padding)
    if len(ids):
        flat = torch.empty((tokens.numel(), columns), device=grad.device).copy_(grad.flatten(0, 1))
        arrays = [on_device(part) for part in (ids, starts, order, flat, result)]
        segment_sum[64, THREADS](*arrays)
    return result


class EmbeddingLookup(torch.autograd.Function):
    @staticmethod
    def forward(ctx, tokens, table, padding_idx):
        ctx.tokens, ctx.rows, ctx.padding = tokens, len(table), padding_idx
        return lookup(tokens, table)

    @staticmethod
    def backward(ctx, grad):
        return None, gradient_of_table(ctx.tokens, grad, ctx.rows, ctx.padding), None
