# loses: test-neftune-bounds, test-neftune-noise, test-neftune-attach, test-neftune-train, test-neftune-loss, test-neftune-module
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
