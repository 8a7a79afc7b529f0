# Never returns, and does not listen to interrupts.
# succeeds: disturbs
# stock: not run: nbclient waits for a kernel that does not listen

# %% median
import signal

signal.signal(signal.SIGINT, signal.SIG_IGN)


def median(values):
    while True:
        pass
