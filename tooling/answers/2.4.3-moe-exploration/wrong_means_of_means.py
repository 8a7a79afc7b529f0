# loses: test-moe-losses
# The mean over prompts of their means: a short prompt weighs like a long one.

# %% moe-losses
def domain_losses(model: nn.Module, input_ids: Tensor, attention_mask: Tensor, domains: Tensor, num_domains: int) -> Tensor:
    with torch.no_grad():
        logits = model(input_ids=input_ids, attention_mask=attention_mask).logits
    losses = nn.functional.cross_entropy(logits[:, :-1].transpose(1, 2), input_ids[:, 1:], reduction="none")
    both = (attention_mask[:, 1:] * attention_mask[:, :-1]).to(losses.dtype)
    means = (losses * both).sum(dim=1) / both.sum(dim=1)
    return torch.stack([means[(domains == d) & ~means.isnan()].mean() for d in range(num_domains)])
