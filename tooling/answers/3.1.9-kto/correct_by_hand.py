# By hand: loops, signs as a factor, reference passes made beforehand.

# %% kto-loss
def kto_loss(
    policy: Tensor,
    reference: Tensor,
    label: Tensor,
    baseline: Tensor,
    beta: float,
    weights: tuple[float, float] = (1.0, 1.0),
) -> Tensor:
    if beta <= 0:
        raise ValueError("beta")
    total = policy.new_zeros(())
    for p, q, up in zip(policy, reference, label.tolist(), strict=True):
        z = beta * (p - q - baseline)
        total = total + (weights[0] / (1 + torch.exp(z)) if up else weights[1] / (1 + torch.exp(-z)))
    return total / len(policy)


# %% kto-gradient
def kto_gradient(
    policy: Tensor,
    reference: Tensor,
    label: Tensor,
    baseline: Tensor,
    beta: float,
    weights: tuple[float, float] = (1.0, 1.0),
) -> Tensor:
    sign = label.to(policy.dtype) * 2 - 1
    z = beta * (policy.detach() - reference - baseline) * sign
    slope = 0.25 / torch.cosh(z / 2) ** 2
    weight = torch.tensor([weights[0] if up else weights[1] for up in label.tolist()], dtype=policy.dtype)
    return -sign * weight * slope * beta / len(z)


# %% kto-baseline
def kl_baseline(policy: Tensor, reference: Tensor) -> Tensor:
    mean = (policy - reference).detach().mean()
    return mean if mean > 0 else torch.zeros_like(mean)


# %% kto-train
def train_kto(
    policy: nn.Module,
    reference: nn.Module,
    batches: Sequence[Mapping[str, Tensor]],
    beta: float,
    learning_rate: float,
    weights: tuple[float, float] = (1.0, 1.0),
) -> list[dict[str, float]]:
    with torch.no_grad():
        ready = [(sequence_logps(reference, b), sequence_logps(reference, b, "KL_")) for b in batches]
    optimizer = torch.optim.AdamW([p for p in policy.parameters() if p.requires_grad], lr=learning_rate, weight_decay=0)
    history = []
    policy.train()
    for batch, (anchors, others) in zip(batches, ready, strict=True):
        policy.zero_grad()
        own = sequence_logps(policy, batch)
        with torch.no_grad():
            baseline = kl_baseline(sequence_logps(policy, batch, "KL_"), others)
        loss = kto_loss(own, anchors, batch["label"], baseline, beta, weights)
        loss.backward()
        optimizer.step()
        signed = (own.detach() - anchors) * (batch["label"].to(own.dtype) * 2 - 1)
        history.append({"loss": float(loss), "baseline": float(baseline), "reward": float(beta * signed.mean())})
    policy.eval()
    return history
