# loses: test-dpo-logps-numbers
# Logits in bfloat16 stay in bfloat16, and so do the sums of their logarithms.

# %% dpo-logps
def sequence_logps(logits: Tensor, input_ids: Tensor, completion_mask: Tensor) -> Tensor:
    logps = log_softmax(logits[:, :-1], dim=-1)
    picked = logps.gather(2, input_ids[:, 1:].unsqueeze(2)).squeeze(2)
    return (picked * completion_mask[:, 1:]).sum(dim=1)
