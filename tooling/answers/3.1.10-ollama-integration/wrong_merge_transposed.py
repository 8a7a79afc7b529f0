# loses: test-gguf-merge, test-gguf-module
# The product is turned round.

# %% gguf-merge
def merge_adapter(weights: Mapping[str, Tensor], adapter: Mapping[str, Tensor], scaling: float) -> dict[str, Tensor]:
    merged = dict(weights)
    for layer in {key.removeprefix("base_model.model.").partition(".lora_")[0] for key in adapter}:
        a, b = (adapter.get(f"base_model.model.{layer}.lora_{side}.weight") for side in "AB")
        weight = weights.get(f"{layer}.weight")
        if a is None or b is None or weight is None:
            raise ValueError(f"{layer}: needs lora_A, lora_B and a weight in the model")
        merged[f"{layer}.weight"] = (weight.float() + scaling * (b.float() @ a.float()).T).to(weight.dtype)
    return merged
