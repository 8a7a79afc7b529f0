# By hand: loops and logsumexp, log-odds by masks, a class for the loop's state.

# %% simpo-averages
def average_logps(logits: Tensor, input_ids: Tensor, mask: Tensor) -> Tensor:
    norm = torch.logsumexp(logits, dim=2)
    rows = []
    for logit, log_norm, tokens, marks in zip(logits, norm, input_ids, mask, strict=True):
        total, count = logit.new_zeros(()), 0
        for t in range(1, len(tokens)):
            if marks[t]:
                total, count = total + logit[t - 1, tokens[t]] - log_norm[t - 1], count + 1
        rows.append(total / count if count else total)
    return torch.stack(rows)


# %% simpo-loss
def simpo_loss(chosen: Tensor, rejected: Tensor, beta: float, gamma: float) -> Tensor:
    if beta <= 0 or gamma < 0:
        raise ValueError((beta, gamma))
    z = gamma - beta * (chosen - rejected)
    return torch.logaddexp(torch.zeros_like(z), z).sum() / len(z)


# %% simpo-odds
def log_odds(average: Tensor) -> Tensor:
    result = torch.empty_like(average)
    near = average > -0.5
    result[near] = average[near] - torch.log(-torch.expm1(average[near]))
    result[~near] = average[~near] - torch.log1p(-torch.exp(average[~near]))
    return result


# %% simpo-train
def train_pairs(
    policy: nn.Module,
    batches: Sequence[Mapping[str, Tensor]],
    loss: Callable[[Tensor, Tensor, Tensor], Tensor],
    learning_rate: float,
) -> list[dict[str, float]]:
    policy.train(True)
    parameters = list(policy.parameters())
    optimizer = torch.optim.AdamW(parameters, learning_rate, weight_decay=0)
    history = []
    for batch in batches:
        averages = pair_averages(policy, batch)
        value = loss(*averages)
        for parameter, grad in zip(parameters, torch.autograd.grad(value, parameters), strict=True):
            parameter.grad = grad
        optimizer.step()
        win, lose = averages[0].tolist(), averages[1].tolist()
        history.append({"loss": float(value), "accuracy": sum(a > b for a, b in zip(win, lose, strict=True)) / len(win),
                        "chosen": math.fsum(win) / len(win), "rejected": math.fsum(lose) / len(lose)})
    policy.eval()
    return history
