# Recurses until the interpreter's C stack is gone.
# succeeds: disturbs

# %% median
import sys

sys.setrecursionlimit(10**8)


def median(values):
    return median(values)
