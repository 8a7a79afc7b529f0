# loses: test-archcmp-online, test-archcmp-grouped, test-archcmp-linear, test-archcmp-parameters, test-archcmp-flops, test-archcmp-match, test-archcmp-loss, test-archcmp-verdict, test-archcmp-report
# Nothing was written yet.

# %% archcmp-online
# untouched

# %% archcmp-grouped
# untouched

# %% archcmp-linear
# untouched

# %% archcmp-parameters
# untouched

# %% archcmp-flops
# untouched

# %% archcmp-match
# untouched

# %% archcmp-loss
# untouched

# %% archcmp-verdict
# untouched

# %% archcmp-report
# untouched
