# loses: test-embed-function keeps 2
# Backward queues, where the bits must not depend on the launch.

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
        padding = -1 if ctx.padding_idx is None else ctx.padding_idx
        if rows.numel():
            flat = on_device(tokens.reshape(-1))
            scatter_add[8, THREADS](flat, on_device(rows), padding, on_device(table_grad))
        return None, table_grad, None
