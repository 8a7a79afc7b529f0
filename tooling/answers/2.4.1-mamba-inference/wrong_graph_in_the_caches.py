# loses: test-mambainf-model keeps 3
# No torch.no_grad(), so caches keep the graph of all that came before.

# %% mambainf-model
def model_chunk(
    model: MambaForCausalLM, ids: Tensor, caches: list[LayerCache]
) -> tuple[Tensor, list[LayerCache]]:
    after = []
    with torch.enable_grad():
        hidden = model.backbone.embeddings(ids)
        for block, cache in zip(model.backbone.layers, caches, strict=True):
            out, new = mixer_chunk(block.mixer, block.norm(hidden), cache)
            hidden = hidden + out
            after.append(new)
        return model.lm_head(model.backbone.norm_f(hidden[:, -1])), after
