# loses: test-simpo-averages, test-simpo-loss, test-simpo-odds, test-simpo-orpo, test-simpo-memory, test-simpo-train, test-simpo-length, test-simpo-module
# Nothing was begun.

# %% simpo-averages
# untouched


# %% simpo-loss
# untouched


# %% simpo-odds
# untouched


# %% simpo-orpo
# untouched


# %% simpo-memory
# untouched


# %% simpo-train
# untouched


# %% simpo-length
# untouched
