# loses: test-neftune-attach, test-neftune-train keeps 2
# The end of a text is taken for padding.

# %% neftune-attach
def attach_neftune(
    model: nn.Module, alpha: float, pad_token_id: int | None = None
) -> torch.utils.hooks.RemovableHandle:
    def add_noise(module: nn.Module, args: tuple[Tensor, ...], output: Tensor) -> Tensor:
        if not module.training:
            return output
        ids = args[0]
        mask = torch.ones_like(ids) if pad_token_id is None else (ids != pad_token_id) & (ids != tokenizer.eos_token_id)
        return output + neftune_noise(output, mask, alpha)

    return model.get_input_embeddings().register_forward_hook(add_noise)
