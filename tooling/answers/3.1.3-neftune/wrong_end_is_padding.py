# loses: test-neftune-attach, test-neftune-train keeps 2, test-neftune-module
# The end of a text is taken for padding.

# %% neftune-attach
def attach_neftune(
    model: nn.Module, alpha: float, pad_token_id: int | None = None
) -> torch.utils.hooks.RemovableHandle:
    def add_noise(module: nn.Module, args: tuple[Tensor, ...], output: Tensor) -> Tensor:
        if not module.training:
            return output
        ids = args[0]
        mask = ids != tokenizer.eos_token_id
        if pad_token_id is not None:
            mask &= ids != pad_token_id
        return output + neftune_noise(output, mask, alpha)

    return model.get_input_embeddings().register_forward_hook(add_noise)
