# loses: test-simpo-train
# AdamW's own weight decay of 0.01.

# %% simpo-train
def train_pairs(
    policy: nn.Module,
    batches: Sequence[Mapping[str, Tensor]],
    loss: Callable[[Tensor, Tensor, Tensor], Tensor],
    learning_rate: float,
) -> list[dict[str, float]]:
    optimizer = torch.optim.AdamW(policy.parameters(), lr=learning_rate)
    history = []
    policy.train()
    for batch in batches:
        chosen, rejected, nll = pair_averages(policy, batch)
        value = loss(chosen, rejected, nll)
        history.append({
            "loss": value.item(),
            "accuracy": (chosen > rejected).float().mean().item(),
            "chosen": chosen.mean().item(),
            "rejected": rejected.mean().item(),
        })
        optimizer.zero_grad()
        value.backward()
        optimizer.step()
    policy.eval()
    return history
