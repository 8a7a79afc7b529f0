"""Where there are no pid namespaces: a trusted parent for each job that outlives it and sweeps up after it."""

from __future__ import annotations

import contextlib
import os
import signal
import time

from gradekit.kernels import broker, linux

_WATCHED = (signal.SIGTERM, signal.SIGCHLD, signal.SIGINT)


def watch(uid: int, folder: str) -> int:
    """Split: returns in the child, which becomes the kernel under ``uid``; the caller becomes its guardian.

    Returns a descriptor, the channel to the broker that will make the kernel's connections within ``folder``.

    The guardian passes SIGINT on, takes SIGTERM as the order to end the job, and exits as the kernel did (128 + n for
    signal n). It kills by uid, in one system call that no fork bomb outruns, until nothing of that uid is left.
    """
    linux.prctl(linux.PR_SET_CHILD_SUBREAPER, 1)
    signal.pthread_sigmask(signal.SIG_BLOCK, _WATCHED)
    channel = broker.start(uid, folder)
    kernel = os.fork()
    if kernel == 0:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _WATCHED)
        os.setsid()
        return channel.detach()
    linux.prctl(linux.PR_SET_PDEATHSIG, signal.SIGTERM)
    os.closerange(0, 1 << 20)
    _wait_for_end(kernel)
    status = _sweep(kernel, uid)
    for name in os.listdir("/dev/shm"):
        with contextlib.suppress(OSError):
            if os.lstat(f"/dev/shm/{name}").st_uid == uid:
                os.unlink(f"/dev/shm/{name}")
    code = os.waitstatus_to_exitcode(status)
    os._exit(code if code >= 0 else 128 - code)


def _wait_for_end(kernel: int) -> None:
    while True:
        received = signal.sigwait(_WATCHED)
        if received == signal.SIGTERM:
            return
        if received == signal.SIGINT:
            _signal_group(kernel, signal.SIGINT)
            continue
        while dead := os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT):
            if dead.si_pid == kernel:  # not reaped yet: its numbers stay ours
                return
            os.waitpid(dead.si_pid, 0)


def _sweep(kernel: int, uid: int) -> int:
    status = int(signal.SIGKILL)
    while True:
        helper = os.fork()
        if helper == 0:
            os.setresuid(uid, uid, uid)
            os.kill(-1, signal.SIGKILL)
            os._exit(0)
        os.waitpid(helper, 0)
        try:
            while True:
                pid, ended = os.waitpid(-1, os.WNOHANG)
                if pid == 0:
                    time.sleep(0.001)
                    break
                if pid == kernel:
                    status = ended
        except ChildProcessError:
            return status


def _signal_group(pid: int, number: int) -> None:
    with contextlib.suppress(OSError):
        os.killpg(pid, number)
