# loses: test-median
# The caller's list comes back sorted.

# %% median
def median(values):
    values.sort()
    n = len(values)
    return values[n // 2] if n % 2 else (values[n // 2 - 1] + values[n // 2]) / 2
