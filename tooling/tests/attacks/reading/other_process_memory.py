# Looks for a secret in the memory of every process that it may read.
# succeeds: leak environment
# stock: not run: it would read the memory of every process on the machine

# %% median
import os

for _pid in sorted(filter(str.isdigit, os.listdir("/proc")), key=int):
    if int(_pid) == os.getpid():
        continue
    try:
        print(_pid, open(f"/proc/{_pid}/cmdline").read(200), open(f"/proc/{_pid}/environ").read(5000))
        with open(f"/proc/{_pid}/mem", "rb") as _memory:
            print(_memory.read(1))
    except (OSError, ValueError) as error:
        print(_pid, error)
