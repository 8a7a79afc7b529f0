# loses: test-mambainf-model keeps 1, test-mambainf-module keeps 2
# Layers get their input without the norm.

# %% mambainf-model
def model_chunk(
    model: MambaForCausalLM, ids: Tensor, caches: list[LayerCache]
) -> tuple[Tensor, list[LayerCache]]:
    after = []
    with torch.no_grad():
        hidden = model.backbone.embeddings(ids)
        for block, cache in zip(model.backbone.layers, caches, strict=True):
            out, new = mixer_chunk(block.mixer, hidden, cache)
            hidden = hidden + out
            after.append(new)
        return model.lm_head(model.backbone.norm_f(hidden[:, -1])), after
