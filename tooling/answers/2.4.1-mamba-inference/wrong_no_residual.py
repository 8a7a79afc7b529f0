# loses: test-mambainf-model keeps 1, test-mambainf-module keeps 2
# A layer's output replaces its input.

# %% mambainf-model
def model_chunk(
    model: MambaForCausalLM, ids: Tensor, caches: list[LayerCache]
) -> tuple[Tensor, list[LayerCache]]:
    after = []
    with torch.no_grad():
        hidden = model.backbone.embeddings(ids)
        for block, cache in zip(model.backbone.layers, caches, strict=True):
            out, new = mixer_chunk(block.mixer, block.norm(hidden), cache)
            hidden = out
            after.append(new)
        return model.lm_head(model.backbone.norm_f(hidden[:, -1])), after
