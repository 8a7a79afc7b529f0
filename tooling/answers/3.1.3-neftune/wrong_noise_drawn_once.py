# loses: test-neftune-attach, test-neftune-train keeps 2, test-neftune-module
# Drawn at the first call for each shape and kept.

# %% neftune-attach
def attach_neftune(
    model: nn.Module, alpha: float, pad_token_id: int | None = None
) -> torch.utils.hooks.RemovableHandle:
    kept = {}

    def add_noise(module: nn.Module, args: tuple[Tensor, ...], output: Tensor) -> Tensor:
        if not module.training:
            return output
        ids = args[0]
        mask = torch.ones_like(ids) if pad_token_id is None else ids != pad_token_id
        if output.shape not in kept:
            kept[output.shape] = neftune_noise(output, mask, alpha)
        return output + kept[output.shape]

    return model.get_input_embeddings().register_forward_hook(add_noise)
