# loses: test-kto-feedback, test-kto-collate, test-kto-baseline, test-kto-loss, test-kto-gradient, test-kto-weights, test-kto-train, test-kto-module
# Nothing was begun.

# %% kto-feedback
# untouched


# %% kto-collate
# untouched


# %% kto-baseline
# untouched


# %% kto-loss
# untouched


# %% kto-gradient
# untouched


# %% kto-weights
# untouched


# %% kto-train
# untouched
