# loses: test-mambainf-generate keeps 2
# The loop ends when the first row has stopped.

# %% mambainf-generate
def generate(step: Step, prompt: Tensor, count: int, stop: int | None = None, piece: int = 512) -> Tensor:
    if prompt.shape[1] == 0:
        raise ValueError("the prompt has no token, so nothing can be predicted from it")
    chosen, caches, done = [prompt[:, :0]], None, torch.zeros(len(prompt), dtype=torch.bool)
    pending = prompt.split(piece, dim=1)
    for _ in range(count):
        if done[0]:
            break
        for ids in pending:
            logits, caches = step(ids, caches)
        token = logits.argmax(dim=1)
        if stop is not None:
            token = torch.where(done, stop, token)
            done = token == stop
        chosen.append(token[:, None])
        pending = chosen[-1:]
    return torch.cat(chosen, dim=1)
