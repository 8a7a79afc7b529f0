# By the libraries: cross_entropy, binary cross-entropy with logits, torch.special, corrcoef.

# %% simpo-averages
def average_logps(logits: Tensor, input_ids: Tensor, mask: Tensor) -> Tensor:
    targets = torch.where(mask.bool(), input_ids, -100)[:, 1:]
    terms = nn.functional.cross_entropy(logits[:, :-1].transpose(1, 2), targets, reduction="none", ignore_index=-100)
    count = (targets != -100).sum(dim=1)
    return torch.where(count > 0, -terms.sum(dim=1) / count.clamp(min=1), torch.zeros_like(terms[:, 0]))


# %% simpo-loss
def simpo_loss(chosen: Tensor, rejected: Tensor, beta: float, gamma: float) -> Tensor:
    if not beta > 0 or gamma < 0:
        raise ValueError("out of range")
    z = beta * (chosen - rejected - gamma / beta)
    return nn.functional.binary_cross_entropy_with_logits(z, torch.ones_like(z))


# %% simpo-odds
def log_odds(average: Tensor) -> Tensor:
    return -(torch.expm1(-average).log()) if bool((average > -1).all()) else torch.where(
        average > -30, -torch.log(torch.expm1(-average.clamp(min=-30))), average
    )


# %% simpo-orpo
def orpo_loss(chosen: Tensor, rejected: Tensor, nll: Tensor, weight: float) -> Tensor:
    if weight < 0:
        raise ValueError(weight)
    z = log_odds(chosen) - log_odds(rejected)
    return nll + weight * nn.functional.softplus(-z, threshold=50).mean()


# %% simpo-memory
def training_bytes(policy: nn.Module, reference: nn.Module | None = None) -> dict[str, int]:
    def size(parameters):
        return sum(p.numel() * p.element_size() for p in parameters)

    trained = size(p for p in policy.parameters() if p.requires_grad)
    mine = {p.untyped_storage().data_ptr() for p in policy.parameters()}
    others = list(reference.parameters()) if reference is not None else []
    result = {"weights": size(policy.parameters()), "gradients": trained, "adam": trained * 2,
              "reference": size(p for p in others if p.untyped_storage().data_ptr() not in mine)}
    result["total"] = sum(result.values())
    return result


# %% simpo-length
def length_correlation(scores: Sequence[float], lengths: Sequence[int]) -> float:
    if len(scores) != len(lengths):
        raise ValueError("lengths differ")
    if len(scores) < 2 or len(set(scores)) == 1 or len(set(lengths)) == 1:
        return 0.0
    table = torch.tensor([list(scores), list(lengths)], dtype=torch.float64)
    return torch.corrcoef(table)[0, 1].item()
