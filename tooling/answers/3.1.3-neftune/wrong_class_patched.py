# loses: test-neftune-attach, test-neftune-train
# nn.Embedding itself is changed, so that every model in the process gets noise.

# %% neftune-attach
def attach_neftune(
    model: nn.Module, alpha: float, pad_token_id: int | None = None
) -> torch.utils.hooks.RemovableHandle:
    plain = nn.Embedding.forward

    def forward(self, ids):
        output = plain(self, ids)
        if not self.training:
            return output
        mask = torch.ones_like(ids) if pad_token_id is None else ids != pad_token_id
        return output + neftune_noise(output, mask, alpha)

    nn.Embedding.forward = forward

    def restore():
        nn.Embedding.forward = plain

    return SimpleNamespace(remove=restore)
