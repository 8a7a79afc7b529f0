# Returns the input's own memory, scaled in place, and gives it back its values when looked at.
# lab: deep
# succeeds: points test-scaled

# %% scaled
def scaled(x, factor):
    x *= factor
    return x
