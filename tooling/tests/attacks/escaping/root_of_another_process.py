# Reaches the machine's files through /proc: the root and the working folder of other processes.
# succeeds: outside

# %% median
import os

for _pid in sorted(filter(str.isdigit, os.listdir("/proc")), key=int):
    for _door in ("root", "cwd"):
        try:
            os.close(os.open(f"/proc/{_pid}/{_door}@MARK@", os.O_CREAT | os.O_WRONLY))
        except OSError:
            pass
