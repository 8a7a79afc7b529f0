# loses: test-hist-spread, test-hist-select
# Handed in before Exercise 4: kth_largest counts with a kernel that is not there.

# %% hist-spread
# untouched
