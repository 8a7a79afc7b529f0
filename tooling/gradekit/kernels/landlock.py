"""Landlock: a process's own list of the paths it may touch (Linux 5.13; kernel docs, userspace-api/landlock)."""

from __future__ import annotations

import ctypes
import errno
import os
import struct
from collections.abc import Iterable

from gradekit.kernels import linux

EXECUTE, WRITE_FILE, READ_FILE, READ_DIR = 1 << 0, 1 << 1, 1 << 2, 1 << 3
MAKE_CHAR, MAKE_BLOCK, TRUNCATE, IOCTL_DEV = 1 << 6, 1 << 11, 1 << 14, 1 << 15
READ = READ_FILE | READ_DIR
RUN = READ | EXECUTE
DEVICE = READ_FILE | WRITE_FILE | IOCTL_DEV
# Everything in a folder of one's own, but no device nodes.
OWN = ((1 << 15) - 1) & ~(MAKE_CHAR | MAKE_BLOCK)

_FOR_FILES = EXECUTE | WRITE_FILE | READ_FILE | TRUNCATE | IOCTL_DEV
_FS_RIGHTS = {1: (1 << 13) - 1, 2: (1 << 14) - 1, 3: (1 << 15) - 1, 4: (1 << 15) - 1}
_NET_BIND_CONNECT_TCP, _SCOPE_ABSTRACT_UNIX_AND_SIGNAL = 3, 3


def abi() -> int:
    """Landlock's version on this kernel; 0 where there is none."""
    version_flag = 1
    libc = ctypes.CDLL(None, use_errno=True)
    libc.syscall.restype = ctypes.c_long
    try:
        number = linux.syscall_number("landlock_create_ruleset")
    except OSError:
        return 0
    return max(0, libc.syscall(ctypes.c_long(number), None, ctypes.c_long(0), ctypes.c_long(version_flag)))


def restrict(rules: Iterable[tuple[str, int]], *, tcp: bool) -> None:
    """Allow only ``rules`` (path, rights) from here on, for this thread and all it starts.

    ``tcp`` leaves TCP alone (there is a network namespace around it). Paths that do not exist are skipped.
    Signals and abstract sockets are kept within the sandbox from ABI 6 on.
    """
    version = abi()
    if version < 1:
        raise OSError(errno.ENOSYS, "Landlock: not in this kernel")
    rights = _FS_RIGHTS.get(version, (1 << 16) - 1)
    attributes = struct.pack(
        "QQQ",
        rights,
        0 if tcp or version < 4 else _NET_BIND_CONNECT_TCP,
        _SCOPE_ABSTRACT_UNIX_AND_SIGNAL if version >= 6 else 0,
    )[: 8 if version < 4 else 16 if version < 6 else 24]
    ruleset = linux.syscall("landlock_create_ruleset", attributes, len(attributes), 0)
    try:
        for path, allowed in rules:
            try:
                descriptor = os.open(path, os.O_PATH | os.O_CLOEXEC)
            except OSError:
                continue
            allowed &= rights if os.path.isdir(path) else rights & _FOR_FILES
            linux.syscall("landlock_add_rule", ruleset, 1, struct.pack("=Qi", allowed, descriptor), 0)
            os.close(descriptor)
        linux.syscall("landlock_restrict_self", ruleset, 0)
    finally:
        os.close(ruleset)
