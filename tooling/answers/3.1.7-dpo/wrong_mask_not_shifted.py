# loses: test-dpo-logps, test-dpo-logps-numbers, test-dpo-train, test-dpo-module keeps 2
# Tokens are shifted and their mask is not: the prompt's last token counts, the end does not.

# %% dpo-logps
def sequence_logps(logits: Tensor, input_ids: Tensor, completion_mask: Tensor) -> Tensor:
    if logits.dtype != torch.float64:
        logits = logits.float()
    logps = log_softmax(logits[:, :-1], dim=-1)
    picked = logps.gather(2, input_ids[:, 1:].unsqueeze(2)).squeeze(2)
    return (picked * completion_mask[:, :-1]).sum(dim=1)
