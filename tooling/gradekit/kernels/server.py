"""The fork server's own process: ``python -I -B -m gradekit.kernels.server PLAN``.

It enters the sandbox, imports the preloads, computes nothing (OpenMP work before a fork hangs the children), and then
forks on demand. Over one socket pair the launcher hands it, for each job, two sockets: a conversation, which only the
child reads, so that no job's key or name is ever in memory that a later child inherits; and a control socket, which the
server keeps: ``I`` interrupts, ``K`` or end of file kills, and the end is reported on it as one line of JSON.
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import importlib.abc
import importlib.machinery
import importlib.util
import json
import os
import select
import signal
import socket
import sys
import threading
import time
import types
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, NoReturn

from gradekit.integrity import inside as guard_parts
from gradekit.kernels import child, ladder, linux, sandbox

if TYPE_CHECKING:
    from gradekit.kernels.kernelapp import ForkedKernelApp


@dataclass
class Job:
    pid: int
    slot: int
    leaf: str
    control: socket.socket


def main() -> NoReturn:
    request = json.loads(sys.argv[1])
    launcher = socket.socket(fileno=request["socket"])
    launcher.set_inheritable(False)
    plan = sandbox.ServerPlan.from_json(request["plan"])
    try:
        report, level = ladder.climb(plan, request["levels"])
        if level is None or request["probe"]:
            _say(launcher, {"report": asdict(report)})
            os._exit(0)
        kernelapp, kernel_code = _read_kernelapp()  # now: inside, gradekit's files are out of sight
        guards = [guard_parts.load(guard_parts.read())]
        inside = sandbox.enter_server(level, plan)
        os.environ.update(child.places(sandbox.temporary_directory(inside, "server")))
        os.makedirs(os.environ["HOME"])
        app = _prepare_kernel(kernelapp, kernel_code)
        _preload(request["preload"])  # with a shell in place: matplotlib's inline backend looks for one
        guards[0].take(app.shell, app.kernel, _library_folders(plan))
        _freeze()
        inside.data_bytes = sandbox.data_segment_bytes()
    except BaseException as error:
        _say(launcher, {"error": f"{type(error).__name__}: {error}"})
        os._exit(1)
    _say(launcher, {"report": asdict(report), "pid": os.getpid()})
    Server(inside, app, launcher, guards).serve()


def _say(launcher: socket.socket, message: dict[str, Any]) -> None:
    launcher.sendall(json.dumps(message).encode())


def _preload(modules: list[str]) -> None:
    with _no_cuda() if "torch" in modules else contextlib.nullcontext():
        for name in modules:
            importlib.import_module(name)
    if (running := threading.active_count()) > 1:
        names = ", ".join(t.name for t in threading.enumerate()[1:])
        raise RuntimeError(f"{running - 1} threads were started by the preloads ({names}): a fork would lose them")


def _library_folders(plan: sandbox.ServerPlan) -> tuple[str, ...]:
    """Whose code is not the notebook's: the environment's, labkit's and our own."""
    ours = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    return tuple(f"{folder}/" for folder in (*plan.readable, ours))


def _freeze() -> None:
    gc.collect()
    gc.freeze()  # no child's collector touches, and so copies, what was loaded before the fork


def _read_kernelapp() -> tuple[importlib.machinery.ModuleSpec, types.CodeType]:
    spec = importlib.util.find_spec("gradekit.kernels.kernelapp")
    assert spec and isinstance(spec.loader, importlib.abc.InspectLoader)
    code = spec.loader.get_code(spec.name)
    assert code
    return spec, code


def _prepare_kernel(spec: importlib.machinery.ModuleSpec, code: types.CodeType) -> ForkedKernelApp:
    module = sys.modules[spec.name] = importlib.util.module_from_spec(spec)
    exec(code, module.__dict__)
    return module.ForkedKernelApp.prepare()


@contextlib.contextmanager
def _no_cuda() -> Iterator[None]:
    """Libraries ask at import whether there is a GPU; the real answer would initialise CUDA, which no fork survives."""
    import torch

    real = torch.cuda.is_available, torch.cuda.device_count
    torch.cuda.is_available, torch.cuda.device_count = (lambda: False), (lambda: 0)
    try:
        yield
    finally:
        torch.cuda.is_available, torch.cuda.device_count = real
    if torch.cuda.is_initialized():
        raise RuntimeError("a preload initialised CUDA, which no fork survives: take it off the list")


class Server:
    """The loop that forks, signals and reaps."""

    def __init__(
        self, inside: sandbox.Confinement, app: ForkedKernelApp, launcher: socket.socket, guards: list[Any]
    ) -> None:
        self.inside, self.app, self.launcher = inside, app, launcher
        self.guards = guards  # one, which a kernel takes out: nothing that student code can name leads to it
        self.free = list(range(inside.plan.slots))
        self.by_pid: dict[int, Job] = {}
        self.by_descriptor: dict[int, Job] = {}
        self.count = 0
        self.wake, wake_end = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        signal.set_wakeup_fd(wake_end, warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        self.poll = select.epoll()
        self.poll.register(launcher, select.EPOLLIN)
        self.poll.register(self.wake, select.EPOLLIN)

    def serve(self) -> NoReturn:
        while True:
            for descriptor, _ in self.poll.poll():
                if descriptor == self.launcher.fileno():
                    self._accept()
                elif descriptor == self.wake:
                    with contextlib.suppress(BlockingIOError):
                        os.read(self.wake, 512)
                    self._reap()
                elif descriptor in self.by_descriptor:
                    self._obey(self.by_descriptor[descriptor])

    def _accept(self) -> None:
        _, descriptors, _, _ = socket.recv_fds(self.launcher, 16, 2)
        if not descriptors:
            self._end()
        conversation, control = (socket.socket(fileno=d) for d in descriptors)
        if not self.free:
            conversation.close()
            control.close()
            return
        slot = self.free.pop(0)
        self.count += 1
        pid = self._fork(conversation, control, slot)
        conversation.close()
        control.setblocking(False)
        job = Job(pid, slot, sandbox.leaf_name(self.count), control)
        self.by_pid[pid] = self.by_descriptor[control.fileno()] = job
        self.poll.register(control, select.EPOLLIN)

    def _fork(self, conversation: socket.socket, control: socket.socket, slot: int) -> int:
        namespace = self.inside.pid_namespace
        if namespace is not None:
            linux.unshare(linux.CLONE_NEWPID)  # the next child is pid 1 of a new namespace ...
        pid = os.fork()
        if pid == 0:
            try:
                signal.set_wakeup_fd(-1)
                child.run(self.inside, self.app, conversation, slot, self.count, self.guards)
            finally:
                os._exit(child.FAILED)
        if namespace is not None:
            linux.setns(namespace, linux.CLONE_NEWPID)  # ... and only that one
        return pid

    def _obey(self, job: Job) -> None:
        try:
            order = job.control.recv(16)
        except BlockingIOError:
            return
        except OSError:
            order = b""
        if not order or b"K" in order:
            self._signal(job, signal.SIGKILL)
        elif b"I" in order:
            self._signal(job, signal.SIGINT)
        if not order:
            self._forget(job)

    def _signal(self, job: Job, number: int) -> None:
        if self.inside.level == "container":  # its guardian does the rest
            os.kill(job.pid, signal.SIGTERM if number == signal.SIGKILL else number)
            return
        with contextlib.suppress(ProcessLookupError):  # not yet the leader of a group
            os.killpg(job.pid, number)
        if number == signal.SIGKILL:
            os.kill(job.pid, number)

    def _reap(self) -> None:
        while True:
            try:
                pid, status, usage = os.wait4(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            job = self.by_pid.pop(pid, None)
            if job is None:  # orphans that end up here, as pid 1
                continue
            end: dict[str, Any] = {
                "status": os.waitstatus_to_exitcode(status),
                "cpu_s": usage.ru_utime + usage.ru_stime,
                "max_rss_bytes": usage.ru_maxrss * 1024,
            }
            if self.inside.cgroups:
                end.update(self.inside.cgroups.leave(job.leaf))
            with contextlib.suppress(OSError):
                job.control.send(json.dumps(end).encode() + b"\n")
            self._forget(job)
            job.control.close()
            self.free.append(job.slot)

    def _forget(self, job: Job) -> None:
        descriptor = job.control.fileno()
        if self.by_descriptor.pop(descriptor, None):
            self.poll.unregister(descriptor)

    def _end(self) -> NoReturn:
        """The launcher is gone. As pid 1 of our namespace we take every kernel with us; elsewhere we see to it."""
        for job in list(self.by_pid.values()):
            self._signal(job, signal.SIGKILL)
        deadline = time.monotonic() + 3
        while self.by_pid and time.monotonic() < deadline:
            self._reap()
            time.sleep(0.005)
        os._exit(0)


if __name__ == "__main__":
    main()
