# Sends a signal to a process of the grader's machine.
# succeeds: outside

# %% median
import os
import signal

try:
    os.kill(int("@PID@"), signal.SIGUSR1)
except (OSError, OverflowError) as error:
    print(error)
import time

time.sleep(0.5)
