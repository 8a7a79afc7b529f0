# loses: test-neftune-attach, test-neftune-train keeps 2, test-neftune-module
# The mode is asked for when the hook is attached, and never again.

# %% neftune-attach
def attach_neftune(
    model: nn.Module, alpha: float, pad_token_id: int | None = None
) -> torch.utils.hooks.RemovableHandle:
    training = model.training

    def add_noise(module: nn.Module, args: tuple[Tensor, ...], output: Tensor) -> Tensor:
        if not training:
            return output
        ids = args[0]
        mask = torch.ones_like(ids) if pad_token_id is None else ids != pad_token_id
        return output + neftune_noise(output, mask, alpha)

    return model.get_input_embeddings().register_forward_hook(add_noise)
