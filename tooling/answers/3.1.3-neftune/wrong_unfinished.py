# loses: test-neftune-bounds
# Nothing is written.

# %% neftune-bounds
# untouched

# %% neftune-noise
# untouched

# %% neftune-attach
# untouched

# %% neftune-train
# untouched

# %% neftune-loss
# untouched
