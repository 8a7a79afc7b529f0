# Makes empty files until no more can be had.
# succeeds: disturbs
# stock: not run: it would take this machine's inodes

# %% median
import os

os.mkdir("many")
for _k in range(10_000_000):
    os.close(os.open(f"many/{_k}", os.O_CREAT | os.O_WRONLY))
