# Stops its own process, which is neither dead nor alive.
# succeeds: disturbs
# stock: not run: nbclient's kernel would stay on this machine as a stopped process

# %% median
import os
import signal


def median(values):
    os.kill(os.getpid(), signal.SIGSTOP)
