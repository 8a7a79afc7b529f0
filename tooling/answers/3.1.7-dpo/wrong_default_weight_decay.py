# loses: test-dpo-train
# AdamW's own weight decay of 0.01, which pulls the policy to 0 and not to the reference.

# %% dpo-train
def train_dpo(
    policy: nn.Module, reference: nn.Module, batches: Sequence[Mapping[str, Tensor]], beta: float, learning_rate: float
) -> list[dict[str, float]]:
    optimizer = torch.optim.AdamW(policy.parameters(), lr=learning_rate)
    history = []
    policy.train()
    for batch in batches:
        with torch.no_grad():
            anchors = pair_logps(reference, batch)
        logps = (*pair_logps(policy, batch), *anchors)
        loss = dpo_loss(*logps, beta)
        history.append({**preference_metrics(*logps, beta), "loss": loss.item()})
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    policy.eval()
    return history
