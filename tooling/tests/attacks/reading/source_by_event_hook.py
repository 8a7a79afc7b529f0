# An event hook is given the raw source of each cell.
# succeeds: leak hidden

# %% median
_cells = []
get_ipython().events.register("pre_run_cell", lambda info: _cells.append(info.raw_cell))


def median(values):
    return 0

# %% after test-median
print("".join(_cells)[::-1])
