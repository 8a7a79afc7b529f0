# loses: test-router-gate, test-router-mix, test-router-capacity, test-router-balance, test-router-z, test-router-bias, test-router-look, test-router-module
# Nothing is written yet.

# %% router-gate
# untouched

# %% router-mix
# untouched

# %% router-capacity
# untouched

# %% router-balance
# untouched

# %% router-z
# untouched

# %% router-bias
# untouched

# %% router-look
# untouched
