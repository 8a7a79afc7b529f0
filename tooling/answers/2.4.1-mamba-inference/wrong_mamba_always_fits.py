# loses: test-mambainf-context
# A Mamba is said to hold any context, even if its state does not fit.

# %% mambainf-context
def longest_context(config: MambaConfig | LlamaConfig, budget: int, batch: int = 1, itemsize: int = 2) -> float:
    empty, one = (cache_bytes(config, length, batch, itemsize) for length in (0, 1))
    if one == empty:
        return math.inf
    return budget // one
