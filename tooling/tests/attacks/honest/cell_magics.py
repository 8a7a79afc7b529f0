# Cells that are magics.

# %% first
%%time
_total = 0
for _k in range(1000):
    _total += _k
print(_total)

# %% last
%%capture output
print("not shown")
