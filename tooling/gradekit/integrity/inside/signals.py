"""Signal handlers: Python hands them the frame that was interrupted, which may be the test's."""

from __future__ import annotations

import signal
from collections.abc import Callable
from typing import Any

_get, _set = signal.getsignal, signal.signal
_ALL = sorted(signal.valid_signals())
_IGNORE = signal.SIG_IGN


class Signals:
    """Silences the notebook's own handlers; a library's stay, such as what interrupts a cell."""

    def __init__(self, is_librarys_own: Callable[[Any], bool]) -> None:
        self._is_librarys_own = is_librarys_own

    def restore(self) -> list[str]:
        """In the main thread. Returns the names of the signals that had a handler of the notebook's."""
        found = []
        for number in _ALL:
            handler = _get(number)
            if callable(handler) and not self._is_librarys_own(handler):
                _set(number, _IGNORE)  # the default would end the kernel when an alarm is still set
                found.append(f"the handler of signal {int(number)}")
        return found
