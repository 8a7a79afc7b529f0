# loses: test-median
# The upper of the two values in the middle.

# %% median
def median(values):
    return sorted(values)[len(values) // 2]
