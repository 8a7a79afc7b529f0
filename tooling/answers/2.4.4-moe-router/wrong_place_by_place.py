# loses: test-router-mix
# An expert is called once for each column of the choice.

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
        for place in range(indices.shape[1]):
            (token,) = torch.where(indices[:, place] == number)
            if len(token):
                out = out.index_add(0, token, (weights[token, place, None] * expert(x[token])).to(x.dtype))
    for expert in shared:
        out = out + expert(x)
    return out
