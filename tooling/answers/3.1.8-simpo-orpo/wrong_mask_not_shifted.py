# loses: test-simpo-averages, test-simpo-train, test-simpo-module keeps 2
# Tokens are shifted and their mask is not.

# %% simpo-averages
def average_logps(logits: Tensor, input_ids: Tensor, mask: Tensor) -> Tensor:
    logps = log_softmax(logits[:, :-1], dim=-1)
    picked = logps.gather(2, input_ids[:, 1:].unsqueeze(2)).squeeze(2)
    terms = mask[:, :-1]
    return (picked * terms).sum(dim=1) / terms.sum(dim=1).clamp(min=1)
