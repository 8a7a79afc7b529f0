# loses: test-scaled
# Launches nothing.

# %% scaled
def scaled(x, factor):
    return x * factor
