# Attaches to its parent and to the first process as a debugger.
# succeeds: outside
# stock: not run: it would stop processes of the machine

# %% median
import ctypes
import os

_libc = ctypes.CDLL(None, use_errno=True)
for _pid in (os.getppid(), 1):
    if _libc.ptrace(16, _pid, 0, 0) == 0:
        open("@MARK@", "w").close()
    print(os.strerror(ctypes.get_errno()))
    print(_libc.process_vm_readv(_pid, None, 0, None, 0, 0), os.strerror(ctypes.get_errno()))
