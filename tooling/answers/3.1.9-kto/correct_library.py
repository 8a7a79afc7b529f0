# By the libraries: a generator of records, pad_sequence, index_select for the kinds, autograd for the gradient.

# %% kto-feedback
def to_feedback(log: Sequence[Mapping], up: int = 4, down: int = 2) -> list[dict]:
    if not down < up:
        raise ValueError("thresholds overlap")
    rated = [e for e in log if e["rating"] is not None]
    for e in rated:
        if e["rating"] not in range(1, 6):
            raise ValueError("impossible rating " + str(e["rating"]))
    kept = (e for e in rated if e["answer"].strip() and (e["rating"] >= up or e["rating"] <= down))
    return [{"prompt": e["prompt"], "completion": e["answer"], "label": e["rating"] >= up} for e in kept]


# %% kto-collate
from torch.nn.utils.rnn import pad_sequence


def collate(feedback: Sequence[Mapping]) -> dict[str, Tensor]:
    size = len(feedback)
    if size <= 1:
        raise ValueError("two entries are needed")
    batch = {"label": torch.tensor([bool(f["label"]) for f in feedback])}
    for prefix, shift in (("", 0), ("KL_", 1)):
        ids, marks = [], []
        for k in range(size):
            prompt = list(feedback[k]["prompt"].encode())
            answer = [*feedback[(k - shift) % size]["completion"].encode(), tokenizer.eos_token_id]
            ids.append(torch.tensor(prompt + answer))
            marks.append(torch.tensor([0] * len(prompt) + [1] * len(answer)))
        batch[prefix + "input_ids"] = pad_sequence(ids, batch_first=True, padding_value=tokenizer.pad_token_id)
        batch[prefix + "attention_mask"] = pad_sequence([torch.ones_like(row) for row in ids], batch_first=True)
        batch[prefix + "completion_mask"] = pad_sequence(marks, batch_first=True)
    return batch


# %% kto-baseline
def kl_baseline(policy: Tensor, reference: Tensor) -> Tensor:
    with torch.no_grad():
        return torch.relu(torch.mean(policy - reference))


# %% kto-loss
def kto_loss(
    policy: Tensor,
    reference: Tensor,
    label: Tensor,
    baseline: Tensor,
    beta: float,
    weights: tuple[float, float] = (1.0, 1.0),
) -> Tensor:
    if not beta > 0:
        raise ValueError(beta)
    ratio = policy - reference
    up = weights[0] * torch.sigmoid(-beta * (ratio[label] - baseline))
    down = weights[1] * torch.sigmoid(-beta * (baseline - ratio[~label]))
    return torch.cat([up, down]).mean()


# %% kto-gradient
def kto_gradient(
    policy: Tensor,
    reference: Tensor,
    label: Tensor,
    baseline: Tensor,
    beta: float,
    weights: tuple[float, float] = (1.0, 1.0),
) -> Tensor:
    with torch.no_grad():
        z = beta * (policy - reference - baseline)
        slope = torch.exp(torch.nn.functional.logsigmoid(z) + torch.nn.functional.logsigmoid(-z))
        weight = label * -weights[0] + ~label * weights[1]
        return weight * slope * beta / policy.numel()


# %% kto-weights
def balanced_weights(label: Tensor) -> tuple[float, float]:
    up, down = float(label.sum()), float((~label).sum())
    if up == 0 or down == 0:
        raise ValueError("one kind only")
    larger = max(up, down)
    return larger / up, larger / down
