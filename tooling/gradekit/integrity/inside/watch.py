"""The guard in the kernel: one thread that obeys the grader, one audit hook that speaks up by itself.

The thread sleeps in a read of the command socket. Its orders, and nothing else, say which cell comes next and whether
it is graded. Evidence leaves on a second socket before the event it is about has any effect, and whoever caused the
event waits until the grader has confirmed it; when that cannot be had, the kernel ends. So evidence is not lost to what
the event makes possible.
"""

from __future__ import annotations

import os
import sys
from _thread import allocate_lock, get_ident, start_new_thread
from importlib import import_module
from types import CodeType, FrameType, FunctionType
from typing import Any

from gradekit.integrity.inside import channel, protect
from gradekit.integrity.inside.audit import WATCHED, Auditor, Refused
from gradekit.integrity.inside.curtain import Curtain
from gradekit.integrity.inside.dispatcher import Dispatcher
from gradekit.integrity.inside.given import Given
from gradekit.integrity.inside.modes import Modes
from gradekit.integrity.inside.shell import Shell
from gradekit.integrity.inside.signals import Signals
from gradekit.integrity.inside.snapshot import Snapshot

_read, _write, _exit, _getpid = os.read, os.write, os._exit, os.getpid
_getframe, _current_frames, _settrace, _setprofile = sys._getframe, sys._current_frames, sys.settrace, sys.setprofile
_OURS = __file__.rpartition("/")[0]
#: Once a library is there: what tests import of it, which is then protected before any student code can replace it.
_TESTS_IMPORT = {
    "sys": "math cmath statistics fractions decimal random time timeit itertools functools operator copy json csv re "
           "string collections heapq bisect unittest unittest.mock inspect ast io contextlib types typing datetime",
    "numpy": "numpy.random numpy.testing numpy.linalg",
    "pandas": "pandas.testing",
    "torch": "torch.testing torch.nn.functional torch.linalg",
}  # fmt: skip
_ENOUGH = 10  # sentences about one cell
SILENCED = 97  # exit status of a kernel whose evidence could not get out


class Watch:
    """Made and given its snapshot in the fork server; started in each kernel."""

    def __init__(self) -> None:
        self._busy: set[int] = set()  # threads that are in the hook
        self._sending = allocate_lock()
        self._told: set[str] = set()
        self._locked = False
        self._count = 0
        self._cell = ""
        self._armed = False
        self._begun = self._source = ""
        self._gives: list[str] = []

    def take(self, shell: Any, kernel: Any, library: tuple[str, ...]) -> None:
        """Remember what is right. In the fork server, after all imports."""
        for name, modules in _TESTS_IMPORT.items():
            if name in sys.modules:
                for module in modules.split():
                    import_module(module)
        interactive = sys.modules["IPython.core.interactiveshell"].InteractiveShell
        self._run_code: CodeType = interactive.run_code.__code__
        self._import: CodeType = sys.modules["_frozen_importlib"]._call_with_frames_removed.__code__
        self._run_cell: CodeType = interactive.run_cell_async.__code__
        self._curtain, self._modes = Curtain(shell, kernel), Modes(self._is_librarys_own)
        self._signals, self._dispatcher = Signals(self._is_librarys_own), Dispatcher()
        self.snapshot = Snapshot()
        self.shell = Shell(shell, kernel)
        self.auditor = Auditor(library, self._report)
        self._given = Given(shell.user_ns, self.auditor.is_locked)
        self.auditor.trusted.add(_getframe(0).f_code.co_filename)  # nobody reads this thread's frames either
        self.auditor.replaced = self.snapshot.replaced
        self.auditor.protected = self._is_protected
        self._hook, self._thread = self._on_event, self._obey  # bound here, so that a child's collector never sees them

    def start(self, commands: int, evidence: int, key: bytes) -> None:
        """In the kernel, in its main thread, before student code. ``commands``, ``evidence``: sockets of the grader."""
        self._commands, self._evidence, self._key = commands, evidence, key
        self._main, self._pid = get_ident(), _getpid()
        self.shell.shell.builtin_trap.__enter__()  # for good: it would change the builtins at each cell
        self.snapshot.rebase()
        self.shell.rebase()
        sys.addaudithook(self._hook)
        start_new_thread(self._thread, ())

    # -- the thread --------------------------------------------------------------------------------------------------

    def _obey(self) -> None:
        expected = 1
        while True:
            message = channel.unpack(self._key, b"command", _read(self._commands, channel.LONGEST))
            if message is None or message[0] != expected:
                _exit(SILENCED)
            expected += 1
            number, rows = message
            word, cell, *flags = rows[0]
            try:
                answer = self._before(cell, *flags) if word == "before" else self._after()
            except BaseException as error:
                answer = [["broken", f"{type(error).__name__}: {error}"]]
            _write(self._commands, channel.pack(self._key, b"answer", number, answer))

    def _before(self, cell: str, graded: str, locked: str, *gives: str) -> list[list[str]]:
        self._cell, self._told, self._begun, self._source = cell, set(), "", ""
        self._locked, self._gives = locked == "1", list(gives)
        found: list[list[str]] = []
        self.snapshot.admit()
        if graded == "1" or gives:
            found = [["restored", name] for name in self._restore()]
        if graded == "1":
            found += [["tampered", f"torch's {name} was given another kernel"] for name in self._dispatcher.changed()]
        self.snapshot.look()
        self._armed = True
        self.auditor.graded = graded == "1"
        if graded == "1" and not self.snapshot.stamped:
            found.append(["weaker", f"{sys.implementation.name} {sys.version_info[0]}.{sys.version_info[1]}"])
        return found

    def _after(self) -> list[list[str]]:
        found = []
        replaced = self._given.learn(self._gives)
        if self.auditor.graded:
            found += [["tampered", name] for name in replaced]
            found += [["silent", title] for title in self.snapshot.silent()]
            found += [["tampered", name] for name in self._restore()]
            frame = _current_frames().get(self._main)
            while frame is not None:
                if frame.f_code.co_filename in self.auditor.trusted and frame.f_code.co_name == "<module>":
                    found.append(["running", "the test"])
                    break
                frame = frame.f_back
            found.append(["ran", self._source, *self._outcome()])
        if self._locked:
            self._curtain.clear()
        self.auditor.graded = self._armed = False
        return found

    def _outcome(self) -> list[str]:
        """How the cell ended, by IPython's own account: whether without an error, and the number it ended with."""
        values = self.shell.shell._trait_values
        value = getattr(values.get("last_execution_result"), "result", None)
        if type(value) in (int, bool, float):
            text = repr(value)
        elif value is None:
            text = "nothing"
        else:
            text = "something"
        return ["1" if values.get("last_execution_succeeded") is True else "0", text]

    def _restore(self) -> list[str]:
        return self.snapshot.restore() + self.shell.restore(self._is_librarys_own) + self._given.restore()

    def _is_librarys_own(self, value: Any) -> bool:
        return protect.is_librarys_own(value, self.snapshot.library)

    def _is_protected(self, function: FunctionType) -> bool:
        return id(function.__globals__) in self.snapshot.library

    # -- the hook ----------------------------------------------------------------------------------------------------

    def _on_event(self, event: str, args: tuple[Any, ...]) -> None:
        if event not in WATCHED:
            return
        me = get_ident()
        if me in self._busy:
            return
        self._busy.add(me)
        try:
            asker = _getframe(1)
            if not asker.f_code.co_filename.startswith(_OURS):
                self._judge(event, args, asker, me == self._main)
        except Refused:
            raise
        except Exception as error:  # ours: an honest program must not see it, and the grader must
            self._report("broken", f"the guard failed in {event}: {type(error).__name__}: {error}")
        finally:
            self._busy.discard(me)

    def _judge(self, event: str, args: tuple[Any, ...], asker: FrameType, in_main_thread: bool) -> None:
        if event == "exec":
            if asker.f_code is self._run_code:
                if self._armed and in_main_thread:
                    self._begin(asker, args[0])
            elif asker.f_code is self._import and self.auditor.is_library(args[0]):
                self.snapshot.arrive(asker.f_locals["args"][1])
            return
        if self._locked and in_main_thread and event == "object.__getattr__" and args[1] == "tb_frame":
            self._curtain.lift(asker, self._run_code, self.auditor.is_library)
        self.auditor.judge(event, args, asker)

    def _begin(self, run_code: FrameType, code: CodeType) -> None:
        """The cell's own code is about to run, in the main thread."""
        self._armed = False
        if not self._locked:
            return
        self.auditor.trusted.add(code.co_filename)
        self._source = self._source_of(run_code)
        if self.auditor.graded or not self._gives:  # what gives names is in the release, for all to read
            self._curtain.draw(code.co_filename)
        if self.auditor.graded:
            _settrace(None)
            _setprofile(None)
            self.auditor.begin()
            self._modes.restore()
            self._signals.restore()
            self._restore()
            sys.displayhook = self.shell.displayhook  # IPython's own for this cell, which shows the last expression
            self.snapshot.look()

    def _source_of(self, frame: FrameType | None) -> str:
        """The digest of the text that IPython was given, which is to be the text that the grader sent."""
        while frame is not None and frame.f_code is not self._run_cell:
            frame = frame.f_back
        return channel.digest(str(frame.f_locals.get("raw_cell"))) if frame is not None else "nothing"

    # -- evidence ----------------------------------------------------------------------------------------------------

    def _report(self, kind: str, what: str) -> None:
        """Tell the grader, and wait until it knows."""
        if what in self._told or len(self._told) > _ENOUGH:
            return
        self._told.add(what)
        if _getpid() != self._pid:  # a fork of the kernel: it shares the socket, but not the answers
            _write(self._evidence, channel.pack(self._key, b"forked", 0, [[kind, what]]))
            return
        with self._sending:
            self._count += 1
            try:
                _write(self._evidence, channel.pack(self._key, b"evidence", self._count, [[kind, what]]))
                answer = channel.unpack(self._key, b"confirmed", _read(self._evidence, channel.LONGEST))
            except OSError:
                answer = None
            if answer is None or answer[0] != self._count:
                _exit(SILENCED)
