# By hand: loops over rows, logsumexp, softplus written out, a pickle-free copy by state dict.

# %% dpo-logps
def sequence_logps(logits: Tensor, input_ids: Tensor, completion_mask: Tensor) -> Tensor:
    wide = logits.double() if logits.dtype == torch.float64 else logits.float()
    norm = torch.logsumexp(wide, dim=2)
    sums = []
    for row in range(len(input_ids)):
        total = wide.new_zeros(())
        for t in range(1, input_ids.shape[1]):
            if completion_mask[row, t]:
                total = total + wide[row, t - 1, input_ids[row, t]] - norm[row, t - 1]
        sums.append(total)
    return torch.stack(sums)


# %% dpo-loss
def dpo_loss(
    chosen: Tensor,
    rejected: Tensor,
    ref_chosen: Tensor,
    ref_rejected: Tensor,
    beta: float,
    label_smoothing: float = 0.0,
) -> Tensor:
    if beta <= 0 or not 0 <= label_smoothing < 0.5:
        raise ValueError((beta, label_smoothing))

    def minus_log_sigma(z):
        return torch.logaddexp(torch.zeros_like(z), -z)

    z = beta * ((chosen - rejected) - (ref_chosen - ref_rejected))
    terms = (1 - label_smoothing) * minus_log_sigma(z) + label_smoothing * minus_log_sigma(-z)
    return terms.sum() / terms.numel()


# %% dpo-gradient
def dpo_gradient(
    chosen: Tensor, rejected: Tensor, ref_chosen: Tensor, ref_rejected: Tensor, beta: float
) -> tuple[Tensor, Tensor]:
    delta = (chosen - ref_chosen - rejected + ref_rejected).detach()
    pull = beta / (1 + torch.exp(beta * delta)) / delta.numel()
    return pull.neg(), pull


# %% dpo-rewards
def preference_metrics(
    chosen: Tensor, rejected: Tensor, ref_chosen: Tensor, ref_rejected: Tensor, beta: float
) -> dict[str, float]:
    good = [beta * (p - q) for p, q in zip(chosen.tolist(), ref_chosen.tolist(), strict=True)]
    bad = [beta * (p - q) for p, q in zip(rejected.tolist(), ref_rejected.tolist(), strict=True)]
    n, pairs = len(good), list(zip(good, bad, strict=True))
    return {
        "chosen": sum(good) / n,
        "rejected": sum(bad) / n,
        "margin": sum(g - b for g, b in pairs) / n,
        "accuracy": sum(g > b for g, b in pairs) / n,
        "displaced": sum(1 for g, b in pairs if g > b and g < 0) / n,
    }


# %% dpo-reference
def make_reference(policy: nn.Module) -> nn.Module:
    reference = copy.deepcopy(policy)
    for parameter in reference.parameters():
        parameter.requires_grad = False
    reference.train(False)
    return reference
