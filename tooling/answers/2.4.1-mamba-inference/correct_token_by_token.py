# Everything by single tokens: a rolling window in the convolution, a model that steps, a generation with for and break, a search.

# %% mambainf-conv
def roll(window: Tensor, newest: Tensor) -> Tensor:
    return torch.cat([window[:, :, 1:], newest[:, :, None]], dim=2)


def conv_chunk(x: Tensor, state: Tensor, weight: Tensor, bias: Tensor) -> tuple[Tensor, Tensor]:
    if state.ndim != 3 or state.shape[:2] != x.shape[:2] or state.shape[2] + 1 != weight.shape[1]:
        raise ValueError("state must be (B, D, K - 1)")
    y, window = torch.zeros_like(x), torch.cat([torch.zeros_like(x[:, :, :0]), bias[None, :, None].expand(*x.shape[:2], 1)], 2)
    window = torch.cat([window, state], dim=2)
    for t in range(x.shape[2]):
        window = roll(window, x[:, :, t])
        y[:, :, t] = (window * weight).sum(dim=2) + bias
    return y, window[:, :, 1:].clone()

# %% mambainf-model
def model_chunk(
    model: MambaForCausalLM, ids: Tensor, caches: list[LayerCache]
) -> tuple[Tensor, list[LayerCache]]:
    caches = list(caches)
    with torch.inference_mode(False), torch.no_grad():
        for t in range(ids.shape[1]):
            hidden = torch.nn.functional.embedding(ids[:, t : t + 1], model.backbone.embeddings.weight)
            for number, block in enumerate(model.backbone.layers):
                out, caches[number] = mixer_chunk(block.mixer, block.norm(hidden), caches[number])
                hidden = out + hidden
        logits = model.lm_head(model.backbone.norm_f(hidden))
    return logits[:, 0], caches

# %% mambainf-generate
def generate(step: Step, prompt: Tensor, count: int, stop: int | None = None, piece: int = 512) -> Tensor:
    batch, length = prompt.shape
    if length < 1:
        raise ValueError("an empty prompt")
    new = torch.zeros(batch, count, dtype=torch.long)
    if count == 0:
        return new
    caches = None
    for start in range(0, length, piece):
        logits, caches = step(prompt[:, start : start + piece], caches)
    ended = [False] * batch
    for k in range(count):
        for row in range(batch):
            new[row, k] = stop if ended[row] else logits[row].argmax()
            ended[row] = ended[row] or (stop is not None and int(new[row, k]) == stop)
        if all(ended):
            return new[:, : k + 1]
        if k + 1 < count:
            logits, caches = step(new[:, k : k + 1].clone(), caches)
    return new

# %% mambainf-context
def longest_context(config: MambaConfig | LlamaConfig, budget: int, batch: int = 1, itemsize: int = 2) -> float:
    def fits(length: int) -> bool:
        return cache_bytes(config, length, batch, itemsize) <= budget

    if config.model_type == "mamba":
        return math.inf if fits(10) else 0
    low, high = 0, 1
    while fits(high):
        low, high = high, 2 * high
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if fits(middle) else (low, middle)
    return low
