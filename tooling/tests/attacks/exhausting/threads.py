# Starts threads until no more can be had.
# succeeds: disturbs
# stock: not run: it would take this machine's threads

# %% median
import threading

_stop = threading.Event()
try:
    for _ in range(5000):
        threading.Thread(target=_stop.wait, daemon=True).start()
finally:
    _stop.set()
