# loses: test-matmul-transposed, test-matmul-roofline, test-matmul-register, test-matmul-host keeps 2
# Half of the lab.

# %% matmul-transposed
# untouched

# %% matmul-roofline
# untouched

# %% matmul-register
# untouched
