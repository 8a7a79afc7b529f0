# loses: test-dora-merge, test-dora-one-step, test-dora-drift, test-dora-fair-trial, test-dora-compare, test-dora-module
# Ran out of time after the third exercise.
# %% dora-merge
# untouched
# %% dora-one-step
# untouched
# %% dora-drift
# untouched
# %% dora-fair-trial
# untouched
# %% dora-compare
# untouched
