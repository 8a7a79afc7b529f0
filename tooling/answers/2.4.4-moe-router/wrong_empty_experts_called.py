# loses: test-router-mix
# Experts that nobody chose are called with no rows.

# %% router-mix
def mix_experts(
    x: Tensor,
    weights: Tensor,
    indices: Tensor,
    experts: Sequence[Callable[[Tensor], Tensor]],
    shared: Sequence[Callable[[Tensor], Tensor]] = (),
) -> Tensor:
    out = torch.zeros_like(x)
    for number, expert in enumerate(experts):
        token, place = torch.where(indices == number)
        if True:
            out = out.index_add(0, token, (weights[token, place, None] * expert(x[token])).to(x.dtype))
    for expert in shared:
        out = out + expert(x)
    return out
