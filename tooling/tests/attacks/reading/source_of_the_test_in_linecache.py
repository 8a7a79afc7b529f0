# Reads the source of the cells that ran, the hidden tests among them, from linecache and prints it from a later cell.
# succeeds: leak hidden

# %% after test-median
import linecache

for _lines in list(linecache.cache.values()):
    if len(_lines) > 2 and isinstance(_lines[2], list):
        print("".join(_lines[2])[::-1])

# %% median
def median(values):
    return 0
