# Registers code that runs when the kernel is shut down, after the last cell was judged.
# succeeds: outside

# %% median
import atexit


@atexit.register
def late():
    open("@MARK@", "w").close()
