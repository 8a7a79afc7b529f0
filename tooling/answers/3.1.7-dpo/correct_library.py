# By the libraries: pad_sequence, cross_entropy, binary cross-entropy with logits, mse_loss, state dicts.

# %% dpo-collate
from torch.nn.utils.rnn import pad_sequence


def collate(pairs: Sequence[Mapping[str, str]]) -> dict[str, Tensor]:
    if len(pairs) == 0:
        raise ValueError("no pairs")
    texts = [(p["prompt"], p[side]) for side in ("chosen", "rejected") for p in pairs]
    ids = [torch.tensor([*prompt.encode(), *answer.encode(), 257]) for prompt, answer in texts]
    spans = [torch.arange(len(row)) >= len(prompt.encode()) for row, (prompt, _) in zip(ids, texts, strict=True)]
    return {
        "input_ids": pad_sequence(ids, batch_first=True, padding_value=258),
        "attention_mask": pad_sequence([torch.ones_like(row) for row in ids], batch_first=True),
        "completion_mask": pad_sequence([span.long() for span in spans], batch_first=True),
    }


# %% dpo-logps
def sequence_logps(logits: Tensor, input_ids: Tensor, completion_mask: Tensor) -> Tensor:
    scores = logits if logits.dtype == torch.float64 else logits.to(torch.float32)
    targets = torch.where(completion_mask.bool(), input_ids, -100)[:, 1:]
    terms = nn.functional.cross_entropy(scores[:, :-1].transpose(1, 2), targets, reduction="none", ignore_index=-100)
    return -terms.sum(dim=-1)


# %% dpo-loss
def dpo_loss(
    chosen: Tensor,
    rejected: Tensor,
    ref_chosen: Tensor,
    ref_rejected: Tensor,
    beta: float,
    label_smoothing: float = 0.0,
) -> Tensor:
    if not beta > 0 or label_smoothing < 0 or label_smoothing >= 0.5:
        raise ValueError("out of range")
    z = beta * (chosen - rejected - (ref_chosen - ref_rejected))
    return nn.functional.binary_cross_entropy_with_logits(z, torch.full_like(z, 1 - label_smoothing))


# %% dpo-gradient
def dpo_gradient(
    chosen: Tensor, rejected: Tensor, ref_chosen: Tensor, ref_rejected: Tensor, beta: float
) -> tuple[Tensor, Tensor]:
    with torch.enable_grad():
        policy = [chosen.detach().clone().requires_grad_(), rejected.detach().clone().requires_grad_()]
        loss = -logsigmoid(beta * (policy[0] - policy[1] - ref_chosen.detach() + ref_rejected.detach())).mean()
        up, down = torch.autograd.grad(loss, policy)
    return up, down


# %% dpo-rewards
def preference_metrics(
    chosen: Tensor, rejected: Tensor, ref_chosen: Tensor, ref_rejected: Tensor, beta: float
) -> dict[str, float]:
    with torch.no_grad():
        rewards = beta * torch.stack([chosen - ref_chosen, rejected - ref_rejected]).double()
    margins = rewards[0] - rewards[1]
    won = torch.gt(rewards[0], rewards[1])
    return {"chosen": float(rewards[0].mean()), "rejected": float(rewards[1].mean()), "margin": float(margins.mean()),
            "accuracy": float(won.sum()) / len(won), "displaced": float((won & (rewards[0] < 0)).sum()) / len(won)}


# %% dpo-ipo
def ipo_loss(
    chosen: Tensor, rejected: Tensor, ref_chosen: Tensor, ref_rejected: Tensor, lengths: tuple[Tensor, Tensor], beta: float
) -> Tensor:
    one = torch.ones_like(lengths[0])
    good, bad = torch.maximum(lengths[0], one), torch.maximum(lengths[1], one)
    margin = (chosen - ref_chosen) / good - (rejected - ref_rejected) / bad
    return nn.functional.mse_loss(margin, torch.full_like(margin, 0.5 / beta))


# %% dpo-train
def train_dpo(
    policy: nn.Module, reference: nn.Module, batches: Sequence[Mapping[str, Tensor]], beta: float, learning_rate: float
) -> list[dict[str, float]]:
    optimizer = torch.optim.AdamW(policy.parameters(), lr=learning_rate, weight_decay=0)
    history = []
    anchors = []
    for batch in batches:  # all of the reference first: it never changes
        with torch.no_grad():
            anchors.append(pair_logps(reference, batch))
    policy.train()
    for batch, anchor in zip(batches, anchors, strict=True):
        chosen, rejected = pair_logps(policy, batch)
        loss = dpo_loss(chosen, rejected, *anchor, beta=beta)
        policy.zero_grad()
        loss.backward()
        optimizer.step()
        history.append(dict(preference_metrics(chosen, rejected, *anchor, beta=beta), loss=float(loss.detach())))
    policy.eval()
    return history
