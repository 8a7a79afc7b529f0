# loses: test-embed-function keeps 2
# segment_sum is launched for show, and index_add_ does backward's work.

# %% embed-function
class EmbeddingLookup(torch.autograd.Function):
    @staticmethod
    def forward(ctx, tokens: torch.Tensor, table: torch.Tensor, padding_idx: int | None) -> torch.Tensor:
        ctx.save_for_backward(tokens)
        ctx.rows, ctx.padding_idx = table.shape[0], padding_idx
        return lookup(tokens, table)

    @staticmethod
    def backward(ctx, grad: torch.Tensor) -> tuple[None, torch.Tensor, None]:
        (tokens,) = ctx.saved_tensors
        table_grad = torch.zeros(ctx.rows, grad.shape[2], device=grad.device)
        rows = grad.reshape(-1, grad.shape[2]).contiguous()
        index = segments(tokens, ctx.padding_idx)
        sums = index[0].numel() * grad.shape[2]
        if sums:
            segment_sum[math.ceil(sums / THREADS), THREADS](*map(on_device, (*index, rows, table_grad)))
        flat = tokens.reshape(-1).long()
        kept = flat != (-1 if ctx.padding_idx is None else ctx.padding_idx)
        return None, torch.zeros_like(table_grad).index_add_(0, flat[kept], rows[kept]), None
