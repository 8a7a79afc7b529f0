"""Where there are no mount namespaces: connect() on a job's behalf, only to sockets in the job's own folder.

Landlock does not govern connect() to a socket with a path: D-Bus, a container engine, whatever is open to all users. So
the job's connect() is suspended (seccomp user notification, Linux 5.14 for the exchange of descriptors), and a process
outside its sandbox, with its uid, makes a new connection below the job's folder and puts it in the place of the job's
socket. Everything else is refused, also where the broker may not read the job's memory (Yama) or has died.
"""

from __future__ import annotations

import array
import contextlib
import errno
import fcntl
import os
import select
import signal
import socket
import struct
from typing import NoReturn

import pyseccomp

from gradekit.kernels import linux

_RECEIVE, _SEND, _STILL_VALID, _ADD_DESCRIPTOR = 0xC0502100, 0xC0182101, 0x40082102, 0x40182103
_REPLACE = 1  # SECCOMP_ADDFD_FLAG_SETFD
_NEW_LISTENER = 8
_BENEATH_NO_LINKS = 0x02 | 0x04 | 0x08  # openat2: RESOLVE_NO_MAGICLINKS, _NO_SYMLINKS, _BENEATH
_LONGEST_ADDRESS = 110


def compile_filter() -> bytes:
    """Suspend connect(); refuse what could send to an address without it (unconnected datagram sockets)."""
    rules = pyseccomp.SyscallFilter(pyseccomp.ALLOW)
    rules.set_attr(pyseccomp.Attr.ACT_BADARCH, pyseccomp.KILL_PROCESS)
    rules.add_rule(pyseccomp.NOTIFY, "connect")
    kind = pyseccomp.Arg(1, pyseccomp.MASKED_EQ, 0xF, socket.SOCK_DGRAM)
    rules.add_rule(pyseccomp.ERRNO(errno.EPERM), "socket", kind)
    with os.fdopen(os.memfd_create("filter", os.MFD_CLOEXEC), "w+b") as f:
        rules.export_bpf(f)
        f.seek(0)
        return f.read()


def hand_over(program: bytes, channel: int) -> None:
    """In the job: install the filter and give its listener to the broker. Closes the channel."""
    listener = linux.load_filter(program, _NEW_LISTENER)
    with socket.socket(fileno=channel) as s:
        socket.send_fds(s, [b"x"], [listener])
    os.close(listener)


def start(uid: int, folder: str) -> socket.socket:
    """Fork the broker of a job; returns the channel for ``hand_over``."""
    ours, theirs = socket.socketpair()
    if os.fork() == 0:
        with contextlib.suppress(BaseException):
            ours.close()
            linux.close_descriptors({theirs.fileno()})
            linux.become(uid, uid, groups=True)  # may read the job's memory, and no more
            linux.drop_capabilities()
            linux.prctl(linux.PR_SET_DUMPABLE, 0)
            linux.prctl(linux.PR_SET_PDEATHSIG, signal.SIGKILL)
            _serve(theirs, folder)
        os._exit(0)
    theirs.close()
    return ours


def _serve(channel: socket.socket, folder: str) -> NoReturn:
    _, descriptors, _, _ = socket.recv_fds(channel, 1, 1)
    channel.close()
    listener = descriptors[0]
    root = os.open(folder, os.O_PATH | os.O_CLOEXEC)
    poll = select.poll()
    poll.register(listener, select.POLLIN)
    while True:
        if any(event & (select.POLLHUP | select.POLLERR) for _, event in poll.poll()):
            os._exit(0)
        note = array.array("B", bytes(80))  # struct seccomp_notif
        try:
            fcntl.ioctl(listener, _RECEIVE, note)
        except OSError:  # the caller was interrupted, or is gone
            continue
        number, task = struct.unpack_from("QI", note)
        arguments = struct.unpack_from("6Q", note, 32)
        try:
            _connect(listener, root, folder, number, task, arguments)
            code = 0
        except OSError as error:
            code = error.errno or errno.EPERM
        reply = array.array("B", struct.pack("QqiI", number, 0, -code, 0))
        with contextlib.suppress(OSError):
            fcntl.ioctl(listener, _SEND, reply)


def _connect(listener: int, root: int, folder: str, number: int, task: int, arguments: tuple[int, ...]) -> None:
    descriptor, pointer, length = arguments[0] & 0xFFFFFFFF, arguments[1], arguments[2] & 0xFFFFFFFF
    if not 3 <= length <= _LONGEST_ADDRESS:
        raise PermissionError(errno.EPERM, "")
    with open(f"/proc/{task}/mem", "rb", buffering=0) as memory:
        address = os.pread(memory.fileno(), length, pointer)
    with open(f"/proc/{task}/fdinfo/{descriptor}") as info:
        flags = int(next(line for line in info if line.startswith("flags:")).split()[1], 8)
    here = os.readlink(f"/proc/{task}/cwd")
    # Only now is it sure that all this was read from the task that waits, and not from a later one of its number.
    fcntl.ioctl(listener, _STILL_VALID, struct.pack("Q", number))
    family, path = struct.unpack_from("H", address)[0], os.fsdecode(address[2:].split(b"\0")[0])
    path = os.path.normpath(os.path.join(here, path)) if path else ""
    if family != socket.AF_UNIX or not path.startswith(folder + "/"):
        raise PermissionError(errno.EPERM, "")
    how = struct.pack("QQQ", os.O_PATH | os.O_CLOEXEC, 0, _BENEATH_NO_LINKS)
    target = linux.syscall("openat2", root, os.fsencode(path[len(folder) + 1 :]), how, len(how))
    try:
        with socket.socket(socket.AF_UNIX) as s:
            s.settimeout(2)
            s.connect(f"/proc/self/fd/{target}")
            s.setblocking(not flags & os.O_NONBLOCK)
            close_on_exec = flags & os.O_CLOEXEC
            place = struct.pack("QIIII", number, _REPLACE, s.fileno(), descriptor, close_on_exec)
            fcntl.ioctl(listener, _ADD_DESCRIPTOR, place)
    finally:
        os.close(target)
