# loses: test-dpo-train keeps 3
# The policy trains in evaluation mode, without its dropout.

# %% dpo-train
def train_dpo(
    policy: nn.Module, reference: nn.Module, batches: Sequence[Mapping[str, Tensor]], beta: float, learning_rate: float
) -> list[dict[str, float]]:
    optimizer = torch.optim.AdamW(policy.parameters(), lr=learning_rate, weight_decay=0.0)
    history = []
    policy.eval()
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
