# loses: test-mambainf-model keeps 1, test-mambainf-module
# Every layer is handed the first layer's cache.

# %% mambainf-model
def model_chunk(
    model: MambaForCausalLM, ids: Tensor, caches: list[LayerCache]
) -> tuple[Tensor, list[LayerCache]]:
    after = []
    with torch.no_grad():
        hidden = model.backbone.embeddings(ids)
        for block, _ in zip(model.backbone.layers, caches, strict=True):
            out, new = mixer_chunk(block.mixer, block.norm(hidden), caches[0])
            hidden = hidden + out
            after.append(new)
        return model.lm_head(model.backbone.norm_f(hidden[:, -1])), after
