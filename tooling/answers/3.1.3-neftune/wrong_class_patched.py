# loses: test-neftune-attach keeps 5
# nn.Embedding itself is changed, so that every model in the process gets noise.

# %% neftune-attach
PLAIN = nn.Embedding.forward


def attach_neftune(
    model: nn.Module, alpha: float, pad_token_id: int | None = None
) -> torch.utils.hooks.RemovableHandle:
    def forward(self, ids):
        output = PLAIN(self, ids)
        if not self.training:
            return output
        mask = torch.ones_like(ids) if pad_token_id is None else ids != pad_token_id
        return output + neftune_noise(output, mask, alpha)

    nn.Embedding.forward = forward

    def restore():
        nn.Embedding.forward = PLAIN

    return SimpleNamespace(remove=restore)
