# loses: test-router-look keeps 2
# Columns sum to 1: which groups an expert serves, which is another question.

# %% router-look
def selection_table(indices: Tensor, groups: Tensor, num_groups: int, num_experts: int) -> Tensor:
    kept = indices >= 0
    pairs = (groups[:, None] * num_experts + indices)[kept]
    table = pairs.bincount(minlength=num_groups * num_experts).reshape(num_groups, num_experts)
    return table / table.sum(dim=0, keepdim=True).clamp(min=1)


def load_stats(counts: Tensor) -> dict[str, float]:
    share = counts / counts.sum()
    entropy = torch.special.entr(share).sum() / math.log(len(counts))
    violation = share.max() * len(counts) - 1
    return {"entropy": entropy.item(), "max_violation": violation.item(), "idle": (counts == 0).float().mean().item()}
