# Spreads its memory over many children, each below any limit of a process.
# succeeds: disturbs
# stock: not run: it would fill this machine's memory

# %% median
import os
import time

for _ in range(12):
    try:
        if os.fork() == 0:
            _b = bytearray(200 << 20)
            time.sleep(6)
            os._exit(0)
    except OSError as error:
        print(error)
        break
time.sleep(1)
