# Enters the namespaces of the first process and of its parent.
# succeeds: outside
# stock: not run: as root it would enter the machine's own

# %% median
import ctypes
import os

_libc = ctypes.CDLL(None, use_errno=True)
for _pid in (1, os.getppid()):
    for _kind in ("user", "mnt", "pid", "net"):
        try:
            _fd = os.open(f"/proc/{_pid}/ns/{_kind}", os.O_RDONLY)
        except OSError as error:
            print(error)
            continue
        print(_kind, _libc.setns(_fd, 0), os.strerror(ctypes.get_errno()))
try:
    os.close(os.open("@MARK@", os.O_CREAT | os.O_WRONLY))
except OSError as error:
    print(error)
