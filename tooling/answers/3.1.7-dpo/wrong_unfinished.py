# loses: test-dpo-collate, test-dpo-logps, test-dpo-logps-numbers, test-dpo-loss, test-dpo-gradient, test-dpo-rewards, test-dpo-ipo, test-dpo-reference, test-dpo-train, test-dpo-module
# Nothing was begun.

# %% dpo-collate
# untouched


# %% dpo-logps
# untouched


# %% dpo-loss
# untouched


# %% dpo-gradient
# untouched


# %% dpo-rewards
# untouched


# %% dpo-ipo
# untouched


# %% dpo-reference
# untouched


# %% dpo-train
# untouched
