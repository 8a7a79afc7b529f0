# loses: test-dpo-logps, test-dpo-logps-numbers, test-dpo-train, test-dpo-module
# The mean over the answer's tokens, as in IPO and SimPO, where a sum is asked for.

# %% dpo-logps
def sequence_logps(logits: Tensor, input_ids: Tensor, completion_mask: Tensor) -> Tensor:
    if logits.dtype != torch.float64:
        logits = logits.float()
    logps = log_softmax(logits[:, :-1], dim=-1)
    picked = logps.gather(2, input_ids[:, 1:].unsqueeze(2)).squeeze(2)
    mask = completion_mask[:, 1:]
    return (picked * mask).sum(dim=1) / mask.sum(dim=1).clamp(min=1)
