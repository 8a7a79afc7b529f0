# Forks twice, leaves session and group, and writes a file when the kernel is long gone.
# succeeds: outside

# %% median
import os
import time

if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        time.sleep(2)
        try:
            os.close(os.open("@MARK@", os.O_CREAT | os.O_WRONLY))
        except OSError:
            pass
    os._exit(0)
