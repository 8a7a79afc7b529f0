# loses: test-mambainf-generate keeps 2
# An empty prompt is passed on to the model.

# %% mambainf-generate
def generate(step: Step, prompt: Tensor, count: int, stop: int | None = None, piece: int = 512) -> Tensor:
    chosen, caches, done = [prompt[:, :0]], None, torch.zeros(len(prompt), dtype=torch.bool)
    pending = prompt.split(piece, dim=1)
    for _ in range(count):
        if done.all():
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
