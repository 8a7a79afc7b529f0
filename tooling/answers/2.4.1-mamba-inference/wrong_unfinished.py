# loses: test-mambainf-mixer, test-mambainf-model, test-mambainf-module
# The layer is not written.

# %% mambainf-mixer
# untouched
