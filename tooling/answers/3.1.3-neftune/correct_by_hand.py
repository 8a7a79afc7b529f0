# Loops over texts for the bounds, torch.rand, a wrapped forward for the hook, ExitStack, the loss from the logits.

# %% neftune-bounds
def noise_bounds(attention_mask: Tensor, dim: int, alpha: float) -> Tensor:
    if alpha < 0:
        raise ValueError("alpha")
    counts = [int(row.sum()) for row in attention_mask]
    return torch.tensor([alpha * (n * dim) ** -0.5 if n else 0.0 for n in counts], dtype=torch.float32)

# %% neftune-noise
def neftune_noise(embeddings: Tensor, attention_mask: Tensor, alpha: float) -> Tensor:
    rows, length, dim = embeddings.shape
    noise = torch.rand(rows, length, dim, device=embeddings.device)
    for row, real, bound in zip(noise, attention_mask.bool(), noise_bounds(attention_mask, dim, alpha), strict=True):
        row.mul_(2 * bound).sub_(bound)
        row[~real] = 0
    return noise.to(embeddings)

# %% neftune-attach
class Wrapped:
    def __init__(self, embedding, alpha, pad):
        self.embedding, self.plain = embedding, embedding.forward
        self.alpha, self.pad = alpha, pad
        embedding.forward = self.forward

    def forward(self, ids):
        out = self.plain(ids)
        if self.embedding.training:
            mask = torch.full_like(ids, True, dtype=torch.bool) if self.pad is None else ids.ne(self.pad)
            out = out + neftune_noise(out, mask, self.alpha)
        return out

    def remove(self):
        self.embedding.__dict__.pop("forward", None)


def attach_neftune(
    model: nn.Module, alpha: float, pad_token_id: int | None = None
) -> torch.utils.hooks.RemovableHandle:
    return Wrapped(model.get_input_embeddings(), alpha, pad_token_id)

# %% neftune-train
def train_sft(
    model: nn.Module,
    batches: Iterable[Mapping[str, Tensor]],
    learning_rate: float,
    alpha: float = 0.0,
    pad_token_id: int | None = None,
) -> list[float]:
    with contextlib.ExitStack() as stack:
        stack.callback(model.eval)
        if alpha > 0:
            stack.callback(attach_neftune(model, alpha, pad_token_id).remove)
        steps = torch.optim.AdamW(model.parameters(), learning_rate, weight_decay=0)
        model.train()

        def step(batch):
            steps.zero_grad()
            value = model(**batch).loss
            value.backward()
            steps.step()
            return float(value.detach())

        return [step(batch) for batch in batches]

# %% neftune-loss
@torch.no_grad()
def clean_loss(model: nn.Module, batches: Iterable[Mapping[str, Tensor]]) -> float:
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    losses = []
    for batch in batches:
        logits = model(**{k: v for k, v in batch.items() if k != "labels"}).logits[:, :-1]
        losses.append(nn.functional.cross_entropy(logits.transpose(1, 2), batch["labels"][:, 1:], reduction="none")
                      [batch["labels"][:, 1:] != -100])
    for module, mode in modes:
        module.training = mode
    if not losses or not torch.cat(losses).numel():
        raise ValueError("nothing to measure")
    return torch.cat(losses).double().mean().item()
