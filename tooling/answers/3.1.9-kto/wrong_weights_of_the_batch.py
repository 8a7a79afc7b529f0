# loses: test-kto-train
# Balanced weights of each batch: another loss in every step, and an error for a batch of one kind.

# %% kto-train
def train_kto(
    policy: nn.Module,
    reference: nn.Module,
    batches: Sequence[Mapping[str, Tensor]],
    beta: float,
    learning_rate: float,
    weights: tuple[float, float] = (1.0, 1.0),
) -> list[dict[str, float]]:
    optimizer = torch.optim.AdamW(policy.parameters(), lr=learning_rate, weight_decay=0.0)
    history = []
    policy.train()
    for batch in batches:
        with torch.no_grad():
            anchors = sequence_logps(reference, batch)
            baseline = kl_baseline(sequence_logps(policy, batch, "KL_"), sequence_logps(reference, batch, "KL_"))
        logps = sequence_logps(policy, batch)
        loss = kto_loss(logps, anchors, batch["label"], baseline, beta, balanced_weights(batch["label"]))
        reward = beta * (logps - anchors)
        signed = torch.where(batch["label"], reward, -reward)
        history.append({"loss": loss.item(), "baseline": baseline.item(), "reward": signed.mean().item()})
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    policy.eval()
    return history
