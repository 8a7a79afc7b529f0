# loses: test-neftune-attach, test-neftune-train keeps 2
# Every position counts as a token, whatever the padding id.

# %% neftune-attach
def attach_neftune(
    model: nn.Module, alpha: float, pad_token_id: int | None = None
) -> torch.utils.hooks.RemovableHandle:
    def add_noise(module: nn.Module, args: tuple[Tensor, ...], output: Tensor) -> Tensor:
        if not module.training:
            return output
        ids = args[0]
        mask = torch.ones_like(ids)
        return output + neftune_noise(output, mask, alpha)

    return model.get_input_embeddings().register_forward_hook(add_noise)
