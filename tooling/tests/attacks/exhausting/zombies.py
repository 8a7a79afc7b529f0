# Leaves hundreds of children that nobody waits for.
# succeeds: disturbs
# stock: not run: it would take this machine's process numbers

# %% median
import os

for _ in range(400):
    try:
        if os.fork() == 0:
            os._exit(0)
    except OSError as error:
        print(error)
        break
