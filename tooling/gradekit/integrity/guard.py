"""The grader's half of the guard: it gives the orders, confirms evidence, and knows when the other half was cut off.

What the other half does is described in ``gradekit.integrity.inside``. Nothing it says is taken on trust but with the
key's digest, and its silence is evidence itself.
"""

from __future__ import annotations

import contextlib
import secrets
import socket
import threading
from collections.abc import Collection
from typing import Any, Protocol

from gradekit.integrity.evidence import Evidence
from gradekit.integrity.inside import channel

ANSWER_S = 20.0
_SHOWN = 5


class Board(Protocol):
    """What is needed of a ``Switchboard``."""

    def call(self, function: Any) -> None: ...
    def watch(self, s: socket.socket, events: int, function: Any) -> None: ...


class Guard:
    """The watch over one kernel: ``before`` and ``after`` each code cell, and ``close`` at the end.

    Blocking (a few milliseconds for a graded cell), for one thread at a time.
    """

    def __init__(self) -> None:
        self.key = secrets.token_bytes(32)
        pairs = [socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET) for _ in range(2)]
        (self._commands, commands), (self._evidence, evidence) = pairs
        self.theirs = (commands, evidence)
        self._commands.settimeout(ANSWER_S)
        self._number = 0
        self._lock = threading.Lock()
        self._ordering = threading.Lock()
        self._found: list[tuple[str, str]] = []
        self._cut = ""
        self._over = False  # the kernel has ended
        self._cell, self._graded, self._source = 0, False, ""
        self._saw: tuple[bool, list[str]] | None = None
        self._standing: list[tuple[str, str]] = []

    def listen(self, board: Board) -> None:
        """Confirm evidence from now on, in the switchboard's thread."""
        self._board = board
        board.call(lambda: board.watch(self._evidence, 1, lambda _: self._hear()))

    def before(
        self, cell_index: int, graded: bool, *, locked: bool | None = None, gives: Collection[str] = ()
    ) -> None:
        """Call before a code cell runs; puts everything back if it is graded.

        Args:
            cell_index: its index in the notebook, for the evidence.
            graded: whether its verdict counts.
            locked: whether its source is the course's own, not the student's; by default as ``graded``.
            gives: the names of modules, functions and classes that it gives to the notebook, which are kept for tests.
        """
        self._cell, self._graded, self._source, self._saw = cell_index, graded, "", None
        locked = graded if locked is None else locked
        rows = self._order([["before", str(cell_index), str(int(graded)), str(int(locked)), *sorted(gives)]])
        with self._lock:
            self._found += [(row[0], row[1]) for row in rows]

    def sent(self, source: str) -> None:
        """Tell the guard what the kernel is to run."""
        self._source = channel.digest(source)

    def saw(self, failed: bool, shown: list[str]) -> None:
        """Tell the guard how the cell ended by what came over the Jupyter channels: an error, the results shown."""
        self._saw = failed, shown

    def after(self, cell_index: int) -> list[Evidence]:
        """Call when the cell has run: what was noticed since ``before``."""
        rows = self._order([["after", str(cell_index)]])
        with self._lock:
            found, self._found = self._found, []
        cell = f"cell {cell_index}"
        if not self._graded:
            self._standing += [(kind, f"earlier, in {cell}: {what}") for kind, what in found if kind in _LASTING]
        elif self._standing:
            found = [*self._standing, *found]
        evidence = [Evidence(kind, cell, what, self._graded) for kind, what in found if kind not in _BY_NAME]
        told: dict[str, list[str]] = {name: [what for kind, what in found if kind == name] for name in _BY_NAME}
        for kind, name, *_ in rows:
            told.setdefault(kind, []).append(name)
        for kind, heading, text, holds in _SUMMARIES:
            if names := told.get(kind):
                evidence.append(Evidence(heading, cell, f"{text}{_list(names)}", holds))
        ran = [row for row in rows if row[0] == "ran"]
        if self._graded and ran and (doubt := self._contradiction(*ran[0][1:])):
            evidence.append(Evidence("forged", cell, doubt, True))
        if self._graded and self._cut:
            evidence.append(Evidence("cut", cell, self._cut, True))
        return evidence

    def _contradiction(self, source: str, succeeded: str, value: str) -> str:
        """What the kernel's messages say against what the guard saw, which student code cannot answer for."""
        if not source:
            return "the messages say that the test was run, but its code did not start"
        if self._source and source != self._source:
            return "the kernel ran another text than the test's"
        if self._saw is None:
            return ""
        failed, shown = self._saw
        if failed:
            return ""
        if succeeded != "1":
            return "the messages say that the test passed, but in the kernel it ended with an error"
        if len(shown) > (value != "nothing"):
            return "a result was shown that is not the test's own"
        if value not in ("nothing", "something") and shown != [value]:
            return f"the test ended with {value}, which is not what was shown"
        return ""

    def close(self) -> list[Evidence]:
        """Evidence that came after the last cell."""
        with self._lock:
            found, self._found = self._found, []
        return [Evidence(kind, f"cell {self._cell}", what, False) for kind, what in found]

    def ended(self) -> None:
        """The kernel has ended: from now on silence is no evidence. In the switchboard's thread."""
        self._over = True
        self._evidence.setblocking(False)
        while self._hear():
            pass
        with contextlib.suppress(OSError):
            self._commands.shutdown(socket.SHUT_RDWR)  # wakes who waits for an answer
        with self._ordering:
            self._commands.close()
        self._evidence.close()

    def discard(self) -> None:
        """There was no kernel after all."""
        for s in (self._commands, self._evidence):
            s.close()

    def _order(self, rows: list[list[str]]) -> list[list[str]]:
        if self._cut or self._over:
            return []
        self._number += 1
        try:
            with self._ordering:
                self._commands.send(channel.pack(self.key, b"command", self._number, rows))
                answer = channel.unpack(self.key, b"answer", self._commands.recv(channel.LONGEST))
        except TimeoutError:
            self._cut = f"the guard in the kernel did not answer within {ANSWER_S:g} s"
            return []
        except OSError:
            answer = None
        if answer is None or answer[0] != self._number:
            if not self._over:
                self._cut = "the guard in the kernel was cut off"
            return []
        return answer[1]

    def _hear(self) -> bool:
        """Take in one message; whether there may be more."""
        try:
            data = self._evidence.recv(channel.LONGEST)
        except OSError:
            data = b""
        if not data:
            self._board.watch(self._evidence, 0, lambda _: None)
            return False
        for way in (b"evidence", b"forked"):
            message = channel.unpack(self.key, way, data)
            if message is not None:
                number, rows = message
                with self._lock:
                    self._found += [(row[0], row[1]) for row in rows]
                if way == b"evidence":
                    with contextlib.suppress(OSError):
                        self._evidence.send(channel.pack(self.key, b"confirmed", number, []))
        return True


#: What the kernel's half reports by name, one name a row: the kind of evidence and its sentence.
_SUMMARIES = (
    ("restored", "restored", "put back before the test ran: ", False),
    ("tampered", "tampered", "replaced while the test ran: ", True),
    ("silent", "tampered", "changed and put back while the test ran, in: ", True),
    ("weaker", "weaker", "what a test patches and puts back cannot be seen in this Python: ", False),
    ("running", "forged", "reported as done while it was still running: ", True),
    ("broken", "cut", "the guard failed: ", True),
)


#: What was taken hold of before a test can be used in it without being seen.
_LASTING = ("memory", "disguise")
_BY_NAME = ("restored", "weaker")


def _list(names: list[str]) -> str:
    shown = ", ".join(names[:_SHOWN])
    return shown if len(names) <= _SHOWN else f"{shown} and {len(names) - _SHOWN} more"


