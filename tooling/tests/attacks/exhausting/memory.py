# Allocates memory until there is none.
# succeeds: disturbs
# stock: not run: it would fill this machine's memory

# %% median
_held = []
try:
    while True:
        _held.append(bytearray(64 << 20))
except MemoryError:
    del _held
    raise
