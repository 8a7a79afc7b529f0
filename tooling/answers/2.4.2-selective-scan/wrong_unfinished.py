# loses: test-scan-discretise, test-scan-loop, test-scan-parallel, test-scan-backward, test-scan-selective, test-scan-select, test-scan-kernel, test-scan-module
# Nothing is written yet.

# %% scan-discretise
# untouched

# %% scan-loop
# untouched

# %% scan-parallel
# untouched

# %% scan-backward
# untouched

# %% scan-selective
# untouched

# %% scan-select
# untouched

# %% scan-kernel
# untouched
