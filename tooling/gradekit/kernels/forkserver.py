"""The launcher's side of the fork server: starting it, asking it for kernels, and what is known of each kernel."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gradekit.integrity.guard import Guard
from gradekit.kernels import cgroup, files
from gradekit.kernels.child import settings
from gradekit.kernels.limits import Death, KernelRequest
from gradekit.kernels.report import SandboxError, SandboxReport
from gradekit.kernels.rootfs import python_directories
from gradekit.kernels.sandbox import LEVELS
from gradekit.kernels.switchboard import Relay, Switchboard

if TYPE_CHECKING:
    from gradekit.kernels.manager import SandboxedKernelManager

CHANNELS = ("shell", "iopub", "stdin", "hb", "control")
FLOOR = "container"
SLOTS = 64
_START_S, _KERNEL_S = 180.0, 30.0
_numbers = itertools.count()


class ForkServer:
    """A process that imported ``preload`` once, and forks a locked-in kernel whenever it is asked.

    ``floor``: the lowest sandbox level to accept (``"namespaces"``, ``"container"`` or, by name, ``"none"``).
    ``env``: variables for the kernels that libraries read when they are imported, so the server must have them already.
    ``idle_s``: seconds without a kernel after which the process and its memory are given up until the next one.
    Started on first use, started again if it dies, gone when closed or when this process ends in whatever way.
    Thread-safe. Raises SandboxError where the floor cannot be had.
    """

    def __init__(
        self,
        preload: tuple[str, ...] = (),
        *,
        floor: str = FLOOR,
        cores: int = 1,
        env: dict[str, str] | None = None,
        idle_s: float | None = None,
        levels: tuple[str, ...] | None = None,
        without: frozenset[str] = frozenset(),
    ) -> None:
        """``levels`` and ``without`` (layers to leave out) exist for the tests that take the sandbox apart."""
        if floor not in LEVELS:
            raise ValueError(f"floor must be one of {', '.join(LEVELS)}, not {floor!r}")
        self.preload, self.cores, self.env = tuple(preload), cores, dict(env or {})
        self._idle_s, self._last_use = idle_s, 0.0
        self._levels = list(levels or LEVELS[: LEVELS.index(floor) + 1])
        self._without = without
        self._lock = threading.RLock()
        self._process: subprocess.Popen[bytes] | None = None
        self._socket: socket.socket | None = None
        self._board: Switchboard | None = None
        self._report: SandboxReport | None = None
        self._kernels: set[KernelProcess] = set()
        self._tag = ""
        self._folder = ""

    # -- life ----------------------------------------------------------------------------------------------------------

    def __enter__(self) -> ForkServer:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def start(self) -> None:
        """Start the server process if none is running; returns when the preloads are imported."""
        with self._lock:
            if self._process and self._process.poll() is None:
                return
            self._discard()
            self._start()

    @property
    def report(self) -> SandboxReport:
        """What the kernels of this server are locked in by."""
        self.start()
        assert self._report is not None
        return self._report

    @property
    def pid(self) -> int | None:
        """Process id of the server's outermost process, None when it is not running."""
        return self._process.pid if self._process and self._process.poll() is None else None

    def close(self) -> None:
        """End every kernel and the server; nothing of them is left when this returns."""
        with self._lock:
            self._discard()
            if self._board:
                self._board.close()
                self._board = None

    def _start(self) -> None:
        self._board = self._board or Switchboard()
        _sweep_after_the_killed()
        self._tag = _new_tag()
        self._folder = tempfile.mkdtemp(prefix=f"{self._tag}-")
        jobs = os.path.join(self._folder, "jobs")
        os.mkdir(jobs)
        if os.geteuid() == 0:
            os.chmod(self._folder, 0o711)
            os.chmod(jobs, 0o711)
        env = {**settings(self.cores), **self.env}
        if "environment" in self._without:
            env = {**os.environ, **env}
        started = _run_server(self._tag, jobs, self._levels, self._without, self.preload, env)
        self._process, self._socket, answer = started
        self._report = SandboxReport.from_json(answer["report"]) if "report" in answer else None
        if "error" in answer or self._report is None or self._report.level == "refused":
            self._discard()
            reason = answer.get("error") or "\n".join(self._report.failures if self._report else ())
            raise SandboxError(f"no kernel server, so no student code was run: {reason}")

    def _discard(self) -> None:
        for kernel in list(self._kernels):
            kernel.kill("the kernel server was closed")
        if self._socket:
            self._socket.close()
            self._socket = None
        if self._process:
            try:
                self._process.wait(10)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
            self._process = None
            cgroup.close_branch(self._tag)
        for kernel in list(self._kernels):
            kernel.wait(5)
        if self._folder:
            shutil.rmtree(self._folder, ignore_errors=True)
            self._folder = ""

    # -- kernels -------------------------------------------------------------------------------------------------------

    def spawn(self, request: KernelRequest | None = None) -> KernelProcess:
        """A new locked-in kernel. Raises SandboxError if it cannot lock itself in, ValueError for files too large."""
        request = request or KernelRequest()
        self._last_use = time.monotonic()
        for attempt in (1, 2):
            self.start()
            try:
                return self._spawn(request)
            except (BrokenPipeError, ConnectionResetError, EOFError) as error:
                with self._lock:
                    alive = self._process is not None and self._process.poll() is None
                if attempt == 2:
                    hint = f"all {SLOTS} places may be taken" if alive else "it died twice"
                    raise SandboxError(f"the kernel server gave no kernel: {hint}") from error
                time.sleep(0.05)
        raise AssertionError("unreachable")

    def _spawn(self, request: KernelRequest) -> KernelProcess:
        packed, skipped = files.pack(request.files) if request.files is not None else (None, [])
        folder = tempfile.mkdtemp(prefix="k", dir=self._folder)
        conversation, theirs = socket.socketpair()
        control, their_control = socket.socketpair()
        listeners = []
        guard = Guard()
        try:
            for number in range(1, len(CHANNELS) + 1):
                listener = socket.socket(socket.AF_UNIX)
                listener.bind(f"{folder}/b-{number}")
                listener.listen(16)
                listeners.append(listener)
            with self._lock:
                if self._socket is None:
                    raise EOFError
                socket.send_fds(self._socket, [b"j"], [theirs.fileno(), their_control.fileno()])
            key = secrets.token_hex(16)
            message = {
                "key": key,
                "guard": guard.key.hex(),
                "limits": request.limits.to_json(),
                "gpu": request.gpu,
                "cores": request.cores,
                "env": {**self.env, **request.env},
            }
            descriptors = [x.fileno() for x in (*listeners, *guard.theirs)] + ([packed] if packed is not None else [])
            for s in (theirs, their_control):
                s.close()
            socket.send_fds(conversation, [json.dumps(message).encode()], descriptors)
            conversation.settimeout(_KERNEL_S)
            try:
                answer = _read_line(conversation)
            except TimeoutError:
                raise SandboxError(f"the kernel did not lock itself in within {_KERNEL_S:g} s") from None
            if "error" in answer:
                raise SandboxError(f"the kernel could not lock itself in: {answer['error']}")
        except BaseException:
            control.close()
            guard.discard()
            shutil.rmtree(folder, ignore_errors=True)
            raise
        finally:
            for s in (*listeners, *guard.theirs, conversation, theirs, their_control):
                s.close()
            if packed is not None:
                os.close(packed)
        assert self._board is not None
        kernel = KernelProcess(self._board, folder, key, control, request, answer, skipped, self._forget, guard)
        self._kernels.add(kernel)
        return kernel

    def _forget(self, kernel: KernelProcess) -> None:
        self._kernels.discard(kernel)
        if self._idle_s is not None and not self._kernels and self._board:
            last_use = self._last_use
            self._board.at(time.monotonic() + self._idle_s, lambda: self._stop_if_unused_since(last_use))

    def _stop_if_unused_since(self, last_use: float) -> None:
        if not self._lock.acquire(blocking=False):  # it is being used, or closed
            return
        try:
            if not self._kernels and self._last_use == last_use:
                self._discard()
        finally:
            self._lock.release()

    @contextmanager
    def kernel(self, request: KernelRequest | None = None) -> Iterator[SandboxedKernelManager]:
        """A kernel manager for nbclient and others; the kernel is gone when the block ends."""
        from gradekit.kernels.manager import SandboxedKernelManager

        manager = SandboxedKernelManager(server=self, request=request or KernelRequest())
        try:
            yield manager
        finally:
            manager.discard()


class KernelProcess:
    """One kernel as the grader sees it: signals, death, and where its channels are. Thread-safe."""

    def __init__(
        self,
        board: Switchboard,
        folder: str,
        key: str,
        control: socket.socket,
        request: KernelRequest,
        answer: dict[str, Any],
        skipped: list[str],
        forget: Callable[[KernelProcess], None],
        guard: Guard,
    ) -> None:
        self.guard = guard  # what happened to its tests
        self.level: str = answer["level"]
        self.sandbox_s: float = answer["sandbox_s"]
        self.skipped = skipped  # submitted things that are neither files nor folders, and were left out
        self.death: Death | None = None
        self.connection_info: dict[str, Any] = {
            "transport": "ipc",
            "ip": f"{folder}/f",
            "key": key.encode(),
            "signature_scheme": "hmac-sha256",
            "kernel_name": "gradekit",
            **{f"{name}_port": number for number, name in enumerate(CHANNELS, start=1)},
        }
        self._request, self._folder, self._control = request, folder, control
        self._verdict: tuple[str | None, str] | None = None  # set by whoever kills it first
        self._callbacks: list[Callable[[], None]] = []
        self._lock = threading.Lock()
        self._dead = threading.Event()
        self._forget = forget
        self._received = b""
        pairs = [(f"{folder}/f-{n}", f"{folder}/b-{n}") for n in range(1, len(CHANNELS) + 1)]
        limits = request.limits
        self._relay = Relay(
            board,
            pairs,
            limits.output_bytes,
            lambda: self.kill(f"it sent more than {limits.output_bytes:,} bytes of output", limit="output"),
        )
        guard.listen(board)
        control.setblocking(False)
        self._board = board
        board.call(lambda: board.watch(control, 1, lambda _: self._hear()))
        board.at(
            time.monotonic() + limits.wall_s,
            lambda: self.kill(f"it ran for more than {limits.wall_s:g} s", limit="wall"),
        )

    @property
    def alive(self) -> bool:
        return not self._dead.is_set()

    def interrupt(self) -> None:
        self._order(b"I")

    def kill(self, reason: str, *, limit: str | None = None) -> None:
        """End the kernel and all it started. The first reason given is the one that counts."""
        with self._lock:
            if self._dead.is_set():
                return
            self._verdict = self._verdict or (limit, reason)
        self._order(b"K")

    def wait(self, timeout: float | None = None) -> bool:
        """Wait for its end; whether it has ended."""
        return self._dead.wait(timeout)

    def on_death(self, function: Callable[[], None]) -> None:
        """Call ``function`` once, from another thread, when the kernel has ended (at once if it has)."""
        with self._lock:
            if not self._dead.is_set():
                self._callbacks.append(function)
                return
        function()

    def _order(self, order: bytes) -> None:
        with contextlib.suppress(OSError):
            self._control.send(order)

    def _hear(self) -> None:
        try:
            data = self._control.recv(4096)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        self._received += data
        if data and b"\n" not in self._received:
            return
        self._board.watch(self._control, 0, lambda _: None)
        self._control.close()
        self._relay.close()
        self.guard.ended()
        end = json.loads(self._received) if b"\n" in self._received else {}
        shutil.rmtree(self._folder, ignore_errors=True)
        with self._lock:
            self.death = _death(end, self._verdict, self._request)
            self._dead.set()
            callbacks, self._callbacks = self._callbacks, []
        self._forget(self)
        for function in callbacks:
            with contextlib.suppress(RuntimeError):  # its event loop was closed: nobody waits any more
                function()


def _death(end: dict[str, Any], verdict: tuple[str | None, str] | None, request: KernelRequest) -> Death:
    limits = request.limits
    status = end.get("status")
    usage: dict[str, float] = {k: end[k] for k in ("cpu_s", "max_rss_bytes") if k in end}
    if "peak" in end:
        usage["cgroup_max_bytes"] = end["peak"]
    if verdict:
        return Death(*verdict, status, usage)
    if status is None:
        return Death(None, "the kernel server died", None, usage)
    if end.get("oom_kill"):
        return Death("memory", f"it used more than {limits.memory_bytes:,} bytes of memory", status, usage)
    number = -status if status < 0 else status - 128 if status > 128 else 0
    if number == signal.SIGXCPU or (number == signal.SIGKILL and end["cpu_s"] >= limits.cpu_s):
        return Death("cpu", f"it used more than {limits.cpu_s} s of CPU time", status, usage)
    if number == signal.SIGXFSZ:
        return Death("disk", f"it wrote a file of more than {limits.file_bytes:,} bytes", status, usage)
    if number:
        name = signal.Signals(number).name if number in set(signal.Signals) else f"signal {number}"
        return Death(None, f"it was ended by {name}", status, usage)
    return Death(None, f"its code ended the process with exit status {status}", status, usage)


def ask_for_report() -> SandboxReport:
    """See ``gradekit.kernels.probe``."""
    with tempfile.TemporaryDirectory(prefix="gradekit-") as folder:
        os.chmod(folder, 0o711)
        levels, env = list(LEVELS[:-1]), settings(1)
        process, s, answer = _run_server(_new_tag(), folder, levels, frozenset(), (), env, probe=True)
        s.close()
        process.wait(10)
    if "error" in answer:
        return SandboxReport("refused", (), (answer["error"],))
    return SandboxReport.from_json(answer["report"])


def _run_server(
    tag: str,
    jobs: str,
    levels: list[str],
    without: frozenset[str],
    preload: tuple[str, ...],
    env: dict[str, str],
    *,
    probe: bool = False,
) -> tuple[subprocess.Popen[bytes], socket.socket, dict[str, Any]]:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    plan = {
        "tag": tag,
        "uid_base": _uid_base(tag),
        "slots": SLOTS,
        "jobs_dir": jobs,
        "readable": python_directories(),
        "without": sorted(without),
    }
    request = {"socket": theirs.fileno(), "plan": plan, "levels": levels, "preload": list(preload), "probe": probe}
    command = [sys.executable, "-I", "-B", "-m", "gradekit.kernels.server", json.dumps(request)]
    process = subprocess.Popen(
        command, pass_fds=[theirs.fileno()], env=env, cwd="/", stdin=subprocess.DEVNULL, start_new_session=True
    )
    theirs.close()
    ours.settimeout(_START_S)
    try:
        data = ours.recv(1 << 16)
    except TimeoutError:
        process.kill()
        data = b""
    answer = json.loads(data) if data else {"error": f"it ended with status {process.wait()} while it started"}
    ours.settimeout(None)
    return process, ours, answer


def _new_tag() -> str:
    """A name that no other live server on this machine has."""
    return f"gradekit-{os.getpid()}-{next(_numbers)}"


def _uid_base(tag: str) -> int:
    """The first of this server's uids: high, and not those of another live server on this machine."""
    _, pid, number = tag.split("-")
    known = sum(int(line.split()[2]) for line in Path("/proc/self/uid_map").read_text().splitlines())
    low = 1 << 30 if known > 1 << 31 else 10_000  # a container may know 65,536 uids only
    places = (min(known, (1 << 32) - 1) - low) // (SLOTS + 2)
    return low + (int(pid) * 8 + int(number) % 8) % max(places, 1) * (SLOTS + 2)


def _sweep_after_the_killed() -> None:
    """Remove folders and cgroups of graders that were killed before they could."""
    for folder in Path(tempfile.gettempdir()).glob("gradekit-[0-9]*-[0-9]*-*"):
        pid = folder.name.split("-")[1]
        if not Path("/proc", pid).exists() and folder.stat().st_uid == os.geteuid():
            shutil.rmtree(folder, ignore_errors=True)
    cgroup.close_branches_of_the_dead()


def _read_line(conversation: socket.socket) -> dict[str, Any]:
    data = b""
    while b"\n" not in data:
        more = conversation.recv(4096)
        if not more:
            raise EOFError
        data += more
    return json.loads(data)
