# loses: test-simpo-averages, test-simpo-train, test-simpo-module keeps 2
# Row t of the logits is scored against token t.

# %% simpo-averages
def average_logps(logits: Tensor, input_ids: Tensor, mask: Tensor) -> Tensor:
    logps = log_softmax(logits, dim=-1)
    picked = logps.gather(2, input_ids.unsqueeze(2)).squeeze(2)
    terms = mask
    return (picked * terms).sum(dim=1) / terms.sum(dim=1).clamp(min=1)
