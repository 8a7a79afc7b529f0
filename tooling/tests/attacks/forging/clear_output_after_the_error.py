# A thread asks for the output to be cleared over and over, so that the error that the test shows is gone.
# succeeds: points test-median

# %% median
import threading
import time


def median(values):
    kernel = get_ipython().kernel
    parent = kernel.get_parent()

    def clear():
        for _ in range(100):
            kernel.session.send(kernel.iopub_socket, "clear_output", {"wait": False}, parent=parent, ident=b"clear")
            time.sleep(0.005)

    threading.Thread(target=clear).start()
    return 0

# %% after test-median
import time

time.sleep(1)
