# loses: test-mambaft-step keeps 0, test-mambaft-together
# The last training exercise was left as it came.

# %% mambaft-step
# untouched
