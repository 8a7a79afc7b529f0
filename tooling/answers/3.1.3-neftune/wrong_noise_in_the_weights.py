# loses: test-neftune-attach, test-neftune-train keeps 2, test-neftune-module
# The noise goes into the weights, stays there, and adds up.

# %% neftune-attach
def attach_neftune(
    model: nn.Module, alpha: float, pad_token_id: int | None = None
) -> torch.utils.hooks.RemovableHandle:
    def shake(module, args):
        if module.training:
            ids = args[0]
            mask = torch.ones_like(ids) if pad_token_id is None else ids != pad_token_id
            with torch.no_grad():
                noise = neftune_noise(module.weight[ids], mask, alpha)
                module.weight[ids] += noise

    return model.get_input_embeddings().register_forward_pre_hook(shake)
