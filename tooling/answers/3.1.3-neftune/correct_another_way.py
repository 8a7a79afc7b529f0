# The bounds by a power, noise drawn flat and reshaped, a callable object as hook, a context manager around the loop.

# %% neftune-bounds
def noise_bounds(attention_mask: Tensor, dim: int, alpha: float) -> Tensor:
    if alpha < 0:
        raise ValueError("alpha must not be negative")
    bounds = alpha * (attention_mask.double().sum(1) * dim) ** -0.5
    return bounds.masked_fill(~attention_mask.bool().any(1), 0).float()

# %% neftune-noise
@torch.no_grad()
def neftune_noise(embeddings: Tensor, attention_mask: Tensor, alpha: float) -> Tensor:
    draws = 2 * torch.rand(embeddings.numel()).reshape(embeddings.shape) - 1
    scale = noise_bounds(attention_mask, embeddings.size(2), alpha).unsqueeze(1) * attention_mask
    return torch.einsum("bld,bl->bld", draws, scale).type_as(embeddings)

# %% neftune-attach
class Noise:
    def __init__(self, alpha, pad):
        self.alpha, self.pad = alpha, pad

    def __call__(self, module, args, output):
        if module.training:
            (ids,) = args
            mask = (ids != self.pad) if self.pad is not None else torch.ones(ids.shape)
            return neftune_noise(output, mask, self.alpha).add(output)
        return None


def attach_neftune(
    model: nn.Module, alpha: float, pad_token_id: int | None = None
) -> torch.utils.hooks.RemovableHandle:
    return model.get_input_embeddings().register_forward_hook(Noise(alpha, pad_token_id))

# %% neftune-train
@contextlib.contextmanager
def noisy(model, alpha, pad):
    handle = attach_neftune(model, alpha, pad) if alpha > 0 else None
    try:
        yield model.train()
    finally:
        model.eval()
        if handle:
            handle.remove()


def train_sft(
    model: nn.Module,
    batches: Iterable[Mapping[str, Tensor]],
    learning_rate: float,
    alpha: float = 0.0,
    pad_token_id: int | None = None,
) -> list[float]:
    found, adam = [], torch.optim.Adam(model.parameters(), lr=learning_rate)
    with noisy(model, alpha, pad_token_id):
        for batch in batches:
            loss = model(**batch).loss
            loss.backward()
            adam.step()
            adam.zero_grad()
            found.append(loss.item())
    return found

# %% neftune-loss
def clean_loss(model: nn.Module, batches: Iterable[Mapping[str, Tensor]]) -> float:
    was, sums, counts = model.training, [], []
    model.train(False)
    for batch in batches:
        counts.append(batch["labels"].narrow(1, 1, batch["labels"].size(1) - 1).ne(-100).sum().item())
        with torch.inference_mode():
            sums.append(model(**batch).loss.nan_to_num().item() * counts[-1])
    model.train(was)
    if not any(counts):
        raise ValueError("no labels")
    return math.fsum(sums) / sum(counts)
