# loses: test-moe-count, test-moe-routing, test-moe-information, test-moe-permutation, test-moe-affinity, test-moe-ablation, test-moe-losses, test-moe-module
# Nothing is written yet.

# %% moe-count
# untouched

# %% moe-routing
# untouched

# %% moe-information
# untouched

# %% moe-permutation
# untouched

# %% moe-affinity
# untouched

# %% moe-ablation
# untouched

# %% moe-losses
# untouched
