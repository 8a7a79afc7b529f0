# Calls what a filter of system calls is known to forget: io_uring, bpf, userfaultfd, keyctl, perf, open_by_handle.
# succeeds: outside
# stock: not run: loads programs into the machine's kernel if it may

# %% median
import ctypes
import os

_libc = ctypes.CDLL(None, use_errno=True)
_buffer = ctypes.create_string_buffer(256)
for _name, _number, _arguments in (
    ("io_uring_setup", 425, (4, _buffer)),
    ("bpf", 321, (5, _buffer, 120)),
    ("userfaultfd", 323, (0,)),
    ("keyctl", 250, (0, -3, 1)),
    ("perf_event_open", 298, (_buffer, 0, -1, -1, 0)),
    ("open_by_handle_at", 304, (-100, _buffer, 0)),
    ("kexec_load", 246, (0, 0, _buffer, 0)),
):
    _got = _libc.syscall(_number, *_arguments)
    print(_name, _got, os.strerror(ctypes.get_errno()))
    if _got > 0:
        open("@MARK@", "w").close()
