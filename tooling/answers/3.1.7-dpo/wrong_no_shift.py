# loses: test-dpo-logps, test-dpo-logps-numbers, test-dpo-train, test-dpo-module keeps 2
# Row t of the logits is scored against token t.

# %% dpo-logps
def sequence_logps(logits: Tensor, input_ids: Tensor, completion_mask: Tensor) -> Tensor:
    if logits.dtype != torch.float64:
        logits = logits.float()
    logps = log_softmax(logits, dim=-1)
    picked = logps.gather(2, input_ids.unsqueeze(2)).squeeze(2)
    return (picked * completion_mask).sum(dim=1)
