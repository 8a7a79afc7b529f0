# Forks without an end.
# succeeds: disturbs
# stock: not run: a fork bomb

# %% median
import os
import time

_until = time.monotonic() + 3
while time.monotonic() < _until:
    try:
        if os.fork() == 0:
            time.sleep(0.01)
    except OSError:
        time.sleep(0.05)
