# loses: test-mambainf-model keeps 3
# The head computes the logits of the whole prompt, and all but the last are thrown away.

# %% mambainf-model
def model_chunk(
    model: MambaForCausalLM, ids: Tensor, caches: list[LayerCache]
) -> tuple[Tensor, list[LayerCache]]:
    after = []
    with torch.no_grad():
        hidden = model.backbone.embeddings(ids)
        for block, cache in zip(model.backbone.layers, caches, strict=True):
            out, new = mixer_chunk(block.mixer, block.norm(hidden), cache)
            hidden = hidden + out
            after.append(new)
        return model.lm_head(model.backbone.norm_f(hidden))[:, -1], after
