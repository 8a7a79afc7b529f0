# loses: test-mambainf-context
# A budget that is met exactly is refused to a Mamba.

# %% mambainf-context
def longest_context(config: MambaConfig | LlamaConfig, budget: int, batch: int = 1, itemsize: int = 2) -> float:
    empty, one = (cache_bytes(config, length, batch, itemsize) for length in (0, 1))
    if one == empty:
        return math.inf if empty < budget else 0
    return budget // one
