# Makes namespaces of its own, in which it is root, and mounts and looks around from there.
# succeeds: outside
# stock: not run: mounting as root is no harmless thing to try on a machine without a sandbox

# %% median
import ctypes
import os

_libc = ctypes.CDLL(None, use_errno=True)
for _flags in (0x10000000, 0x10000000 | 0x00020000, 0x00020000, 0x20000000):
    print(_flags, _libc.unshare(_flags), os.strerror(ctypes.get_errno()))
print(_libc.mount(b"none", b"/", None, 1 << 18, None), os.strerror(ctypes.get_errno()))
print(_libc.umount2(b"/tmp", 2), os.strerror(ctypes.get_errno()))
print(_libc.chroot(b"/"), os.strerror(ctypes.get_errno()))
try:
    os.close(os.open("@MARK@", os.O_CREAT | os.O_WRONLY))
except OSError as error:
    print(error)
