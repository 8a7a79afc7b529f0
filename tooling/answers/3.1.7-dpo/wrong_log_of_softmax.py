# loses: test-dpo-logps-numbers
# log(softmax()) underflows: unlikely tokens get -inf.

# %% dpo-logps
def sequence_logps(logits: Tensor, input_ids: Tensor, completion_mask: Tensor) -> Tensor:
    if logits.dtype != torch.float64:
        logits = logits.float()
    logps = torch.log(torch.softmax(logits[:, :-1], dim=-1))
    picked = logps.gather(2, input_ids[:, 1:].unsqueeze(2)).squeeze(2)
    return (picked * completion_mask[:, 1:]).sum(dim=1)
