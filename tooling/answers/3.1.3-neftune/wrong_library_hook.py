# loses: test-neftune-attach, test-neftune-train keeps 2
# transformers' own hook, which knows no padding.

# %% neftune-attach
def attach_neftune(
    model: nn.Module, alpha: float, pad_token_id: int | None = None
) -> torch.utils.hooks.RemovableHandle:
    return activate_neftune(model, alpha)
