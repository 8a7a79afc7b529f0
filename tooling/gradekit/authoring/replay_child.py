"""The process behind `gradekit.authoring.replay`: runs a notebook's cells, and its variants as forks of itself.

A program of its own: it imports nothing of gradekit, so that what it runs meets an ordinary interpreter. It reads one
JSON request on stdin and writes JSON lines to what was its stdout.
"""

from __future__ import annotations

import contextlib
import json
import os
import resource
import selectors
import shutil
import signal
import sys
import tempfile
import time
import traceback
from collections import deque
from types import FrameType
from typing import Any, BinaryIO

from IPython.core.displayhook import DisplayHook
from IPython.core.interactiveshell import InteractiveShell
from traitlets.config import Config


class CellTimeoutError(BaseException):
    """A cell ran too long. Not an Exception, so that no ``except Exception`` in a notebook keeps it."""


class Capture(DisplayHook):
    """Keeps the text of a cell's last expression in place of printing it."""

    value: str | None = None
    source = ""

    def quiet(self) -> bool:
        return self.semicolon_at_end_of_expression(self.source)

    def write_output_prompt(self) -> None:
        pass

    def write_format_data(self, format_dict: dict[str, Any], md_dict: dict[str, Any] | None = None) -> None:
        self.value = format_dict.get("text/plain", "")

    def log_output(self, format_dict: dict[str, Any]) -> None:
        pass

    def finish_displayhook(self) -> None:
        pass


class Shell(InteractiveShell):
    """IPython without a terminal, a history or printed tracebacks (formatting one takes longer than most cells)."""

    displayhook_class = Capture
    displayhook: Capture

    def showtraceback(self, *args: Any, **kwargs: Any) -> None:
        pass

    showsyntaxerror = showindentationerror = showtraceback

    def run(self, source: str, limit: float) -> dict[str, Any]:
        """Run one cell: its seconds, its error as (type, message) and the text of its last expression."""
        self.displayhook.value, self.displayhook.source = None, source
        signal.setitimer(signal.ITIMER_REAL, limit)
        start = time.perf_counter()
        try:
            result = self.run_cell(source, store_history=False)
            error = result.error_before_exec or result.error_in_exec
        except CellTimeoutError as late:  # it came between two statements of IPython's own
            error = late
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
        seconds = time.perf_counter() - start
        pyplot = sys.modules.get("matplotlib.pyplot")
        if pyplot:
            pyplot.close("all")  # as the inline backend does after each cell
        return {
            "seconds": seconds,
            "error": None if error is None else [type(error).__name__, _text(error)],
            "value": self.displayhook.value,
        }


def _text(error: BaseException) -> str:
    try:
        return str(error)[:2000]
    except Exception:
        return "(its message cannot be shown)"


def _out_of_time(signum: int, frame: FrameType | None) -> None:
    raise CellTimeoutError("the cell ran too long")


def lost(step: dict[str, Any], record: dict[str, Any]) -> bool:
    """Whether a test cell gave less than its points."""
    if step["points"] is None:
        return False
    if record["error"] or record["value"] is None:
        return bool(record["error"])
    try:
        return float(record["value"]) != step["points"]
    except ValueError:
        return True


def follow(shell: Shell, variant: dict[str, Any], out: BinaryIO) -> None:
    """Run a variant's steps, in a fork."""
    for step in variant["steps"]:
        record = shell.run(step["source"], variant["cell_limit"])
        write(out, {"variant": variant["name"], "index": step["index"], **record})
        if variant["stop_early"] and lost(step, record):
            break


def write(out: BinaryIO, record: dict[str, Any]) -> None:
    out.write(json.dumps(record).encode() + b"\n")
    out.flush()


def peak() -> int:
    """This process's largest resident size so far, in bytes. Rusage's counts the parent before exec: a last resort."""
    try:
        with open("/proc/self/status") as status:
            return next(int(line.split()[1]) * 1024 for line in status if line.startswith("VmHWM"))
    except PermissionError:  # at level ``container`` a fork has another number than the sandbox's rule names
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


class Fork:
    """A variant on its way."""

    def __init__(self, shell: Shell, variant: dict[str, Any]) -> None:
        self.name = variant["name"]
        self.start = time.monotonic()
        self.deadline = self.start + variant["limit"]
        self.folder = tempfile.mkdtemp()
        self.unread = b""
        self.finished = False
        self.fd, theirs = os.pipe()
        self.pid = os.fork()
        if self.pid:
            os.close(theirs)
            return
        try:
            os.setsid()
            here = os.path.join(self.folder, "here")
            shutil.copytree(".", here, symlinks=True)  # two variants may write the same file
            os.chdir(here)
            memory = variant["memory"]
            resource.setrlimit(resource.RLIMIT_DATA, (memory, memory))
            with os.fdopen(theirs, "wb") as out:
                follow(shell, variant, out)
                write(out, {"variant": self.name, "ended": "", "peak": peak()})
        finally:
            os._exit(0)

    def read(self, out: BinaryIO) -> bool:
        """Pass on the complete lines that the fork has written; whether they were the last."""
        data = os.read(self.fd, 1 << 16)
        *lines, self.unread = (self.unread + data).split(b"\n")
        for line in lines:
            out.write(line + b"\n")
            self.finished = self.finished or b'"ended"' in line
        return self.finished or not data

    def end(self, out: BinaryIO, reason: str = "") -> None:
        """Leave no process and no file of it behind; say why when it did not come to its end by itself."""
        if reason or self.finished:
            _kill_group(self.pid)
        _, status = os.waitpid(self.pid, 0)
        _kill_group(self.pid)
        if not self.finished:
            code = os.waitstatus_to_exitcode(status)
            died = f"killed by signal {-code}" if code < 0 else f"left with exit status {code}"
            write(out, {"variant": self.name, "ended": reason or died, "peak": 0})
        os.close(self.fd)
        shutil.rmtree(self.folder, ignore_errors=True)
        self.finished = True


def _kill_group(pid: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(pid, signal.SIGKILL)


def branch(shell: Shell, variants: list[dict[str, Any]], jobs: int, out: BinaryIO) -> None:
    """Run the variants that leave the trunk here, those first that set the pace of others."""
    seconds = together(shell, [v for v in variants if not v["pace"]], jobs, out)
    for variant in variants:
        if variant["pace"]:
            variant["limit"] = 5 * seconds[variant["pace"]] + 2
    together(shell, [v for v in variants if v["pace"]], jobs, out)


def together(shell: Shell, variants: list[dict[str, Any]], jobs: int, out: BinaryIO) -> dict[str, float]:
    """Run variants, ``jobs`` at a time. Returns how long each took."""
    seconds: dict[str, float] = {}
    # Not epoll: it goes by open files, and later forks hold the pipes of earlier ones open.
    waiting, running = deque(variants), selectors.PollSelector()
    while waiting or running.get_map():
        while waiting and len(running.get_map()) < jobs:
            fork = Fork(shell, waiting.popleft())
            running.register(fork.fd, selectors.EVENT_READ, fork)
        forks = [key.data for key in running.get_map().values()]
        soonest = min(fork.deadline for fork in forks) - time.monotonic()
        ready = [key.data for key, _ in running.select(max(0.0, soonest))]
        for fork in forks:
            done = fork in ready and fork.read(out)
            late = fork.deadline < time.monotonic()
            if done or late:
                running.unregister(fork.fd)
                fork.end(out, "" if done else "timed out")
                seconds[fork.name] = time.monotonic() - fork.start
        out.flush()
    return seconds


def main() -> None:
    request = json.load(sys.stdin)
    out = os.fdopen(os.dup(1), "wb")
    complaints = os.fdopen(os.dup(2), "w", buffering=1)
    sys.excepthook = lambda kind, error, trace: traceback.print_exception(error, file=complaints)
    null = os.open(os.devnull, os.O_RDWR)
    for fd in (0, 1, 2):
        os.dup2(null, fd)
    sys.path[0] = ""  # as in a kernel
    signal.signal(signal.SIGALRM, _out_of_time)
    quiet = Config({"HistoryManager": {"enabled": False}})
    shell = Shell.instance(config=quiet)
    for source in request["setup"]:
        shell.run(source, request["cell_limit"])
    for step in request["steps"]:
        here = [variant for variant in request["variants"] if variant["first"] == step["index"]]
        branch(shell, here, request["jobs"], out)
        write(out, {"variant": None, "index": step["index"], **shell.run(step["source"], request["cell_limit"])})
    branch(shell, [v for v in request["variants"] if v["first"] is None], request["jobs"], out)
    write(out, {"variant": None, "ended": "", "peak": peak()})
    out.close()
    os._exit(0)  # threads and exit handlers of the notebook have nothing left to do


if __name__ == "__main__":
    main()
