# loses: test-is_prime, test-RunningMean
# The second half is not done.

# %% is_prime
# untouched

# %% RunningMean
# untouched
