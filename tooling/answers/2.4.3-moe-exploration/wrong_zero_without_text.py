# loses: test-moe-losses
# 0 for a domain without text, which looks like a perfect model.

# %% moe-losses
def domain_losses(model: nn.Module, input_ids: Tensor, attention_mask: Tensor, domains: Tensor, num_domains: int) -> Tensor:
    with torch.no_grad():
        logits = model(input_ids=input_ids, attention_mask=attention_mask).logits
    losses = nn.functional.cross_entropy(logits[:, :-1].transpose(1, 2), input_ids[:, 1:], reduction="none")
    both = (attention_mask[:, 1:] * attention_mask[:, :-1]).to(losses.dtype)
    sums = losses.new_zeros(num_domains).index_add(0, domains, (losses * both).sum(dim=1))
    return sums / both.new_zeros(num_domains).index_add(0, domains, both.sum(dim=1)).clamp(min=1)
