# loses: test-mambainf-context
# The budget is compared with the caches of one sequence.

# %% mambainf-context
def longest_context(config: MambaConfig | LlamaConfig, budget: int, batch: int = 1, itemsize: int = 2) -> float:
    empty, one = (cache_bytes(config, length, 1, itemsize) for length in (0, 1))
    if one == empty:
        return math.inf if empty <= budget else 0
    return budget // one
