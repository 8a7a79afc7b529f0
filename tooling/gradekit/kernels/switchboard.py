"""One thread in the grader through which every byte from and to the sandboxed kernels passes.

It carries the Jupyter channels between two sets of unix sockets and counts what a kernel sends: zmq itself puts no
bound on a message of many frames, and a hostile kernel could fill the grader's memory. It hears of every death at once,
and it keeps the wall clocks.
"""

from __future__ import annotations

import contextlib
import heapq
import itertools
import os
import selectors
import socket
import threading
import time
from collections.abc import Callable
from functools import partial
from typing import Any

_CHUNK = 1 << 18


class Switchboard:
    """A thread that runs callbacks for readable and writable sockets, and for deadlines."""

    def __init__(self) -> None:
        self._selector = selectors.DefaultSelector()
        self._calls: list[Callable[[], None]] = []
        self._timers: list[tuple[float, int, Callable[[], None]]] = []
        self._order = itertools.count()
        self._lock = threading.Lock()
        self._wake, self._waker = socket.socketpair()
        self._wake.setblocking(False)
        self._waker.setblocking(False)
        self._selector.register(self._wake, selectors.EVENT_READ, self._drain)
        self._stopped = False
        self._thread = threading.Thread(target=self._run, name="gradekit-switchboard", daemon=True)
        self._thread.start()

    def call(self, function: Callable[[], None]) -> None:
        """Run ``function`` in the switchboard's thread, soon."""
        with self._lock:
            self._calls.append(function)
        with contextlib.suppress(BlockingIOError):
            self._waker.send(b"x")

    def at(self, when: float, function: Callable[[], None]) -> None:
        """Run ``function`` at ``when`` (time.monotonic), in the switchboard's thread."""
        self.call(lambda: heapq.heappush(self._timers, (when, next(self._order), function)))

    def watch(self, s: socket.socket, events: int, function: Callable[[int], None]) -> None:
        """Only from the switchboard's thread: call ``function(events)`` when ``s`` is ready; 0 stops."""
        with contextlib.suppress(KeyError, ValueError):
            if events:
                with contextlib.suppress(KeyError):
                    self._selector.modify(s, events, function)
                    return
                self._selector.register(s, events, function)
            else:
                self._selector.unregister(s)

    def close(self) -> None:
        self._stopped = True
        self.call(lambda: None)
        self._thread.join(5)

    def _drain(self, _: int) -> None:
        with contextlib.suppress(BlockingIOError):
            while self._wake.recv(4096):
                pass

    def _run(self) -> None:
        while not self._stopped:
            timeout = max(0.0, self._timers[0][0] - time.monotonic()) if self._timers else None
            for key, events in self._selector.select(timeout):
                if key.fileobj in self._selector.get_map():  # not closed by an earlier callback of this round
                    key.data(events)
            with self._lock:
                calls, self._calls = self._calls, []
            for function in calls:
                function()
            while self._timers and self._timers[0][0] <= time.monotonic():
                heapq.heappop(self._timers)[2]()
        self._selector.close()
        self._wake.close()
        self._waker.close()


class Relay:
    """Carries one kernel's channels: who connects to a ``front`` path is joined to the kernel's ``back`` path."""

    def __init__(
        self, board: Switchboard, pairs: list[tuple[str, str]], most_bytes: int, too_much: Callable[[], None]
    ) -> None:
        self._board = board
        self._left = most_bytes
        self._too_much = too_much
        self._open: list[Any] = []
        listeners = []
        for front, back in pairs:
            listener = _listen(front)
            listener.setblocking(False)
            listeners.append((listener, back))
        self._open = [listener for listener, _ in listeners]
        board.call(lambda: self._start(listeners))

    def close(self) -> None:
        self._board.call(self._close)

    def _start(self, listeners: list[tuple[socket.socket, str]]) -> None:
        for listener, back in listeners:
            self._board.watch(listener, selectors.EVENT_READ, partial(self._accept, listener, back))

    def _accept(self, listener: socket.socket, back: str, _: int) -> None:
        try:
            client, _ = listener.accept()
        except OSError:
            return
        kernel = socket.socket(socket.AF_UNIX)
        try:
            kernel.connect(back)
        except OSError:
            client.close()
            kernel.close()
            return
        self._open.append(_Pair(self._board, client, kernel, self._count))

    def _count(self, size: int) -> bool:
        """Whether the kernel may send ``size`` more bytes."""
        if self._left < 0:
            return False
        self._left -= size
        if self._left < 0:
            self._too_much()
            return False
        return True

    def _close(self) -> None:
        for thing in self._open:
            if isinstance(thing, socket.socket):
                self._board.watch(thing, 0, lambda _: None)
            thing.close()
        self._open = []


class _Pair:
    """Two connected sockets; what one says the other hears, with at most one chunk in flight each way."""

    def __init__(
        self, board: Switchboard, client: socket.socket, kernel: socket.socket, count: Callable[[int], bool]
    ) -> None:
        self._board, self._count = board, count
        self._client, self._kernel = client, kernel
        self._waiting: dict[socket.socket, memoryview] = {}  # what a socket is still to be told
        for s in (client, kernel):
            s.setblocking(False)
            self._interest(s)

    def close(self) -> None:
        for s in (self._client, self._kernel):
            if s.fileno() >= 0:
                self._board.watch(s, 0, lambda _: None)
                s.close()

    def _other(self, s: socket.socket) -> socket.socket:
        return self._kernel if s is self._client else self._client

    def _interest(self, s: socket.socket) -> None:
        events = (0 if self._other(s) in self._waiting else selectors.EVENT_READ) | (
            selectors.EVENT_WRITE if s in self._waiting else 0
        )
        self._board.watch(s, events, lambda ready: self._ready(s, ready))

    def _ready(self, s: socket.socket, ready: int) -> None:
        try:
            if ready & selectors.EVENT_WRITE and s in self._waiting:
                rest = self._waiting.pop(s)
                self._tell(s, rest)
            if ready & selectors.EVENT_READ and self._other(s) not in self._waiting:
                data = s.recv(_CHUNK)
                if not data or (s is self._kernel and not self._count(len(data))):
                    self.close()
                    return
                self._tell(self._other(s), memoryview(data))
        except BlockingIOError:
            return
        except OSError:
            self.close()

    def _tell(self, s: socket.socket, data: memoryview) -> None:
        try:
            sent = s.send(data)
        except BlockingIOError:
            sent = 0
        if sent < len(data):
            self._waiting[s] = data[sent:]
        self._interest(self._client)
        self._interest(self._kernel)


def _listen(path: str) -> socket.socket:
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(path)
    os.chmod(path, 0o600)
    listener.listen(16)
    return listener
