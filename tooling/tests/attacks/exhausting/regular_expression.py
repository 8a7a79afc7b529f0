# Spends its time in C code that holds the interpreter's lock.
# succeeds: disturbs
# stock: not run: nbclient waits for a kernel that cannot listen

# %% median
import re


def median(values):
    return re.match(r"(a*)*b", "a" * 40)
