"""What a test says stays unread: its source is out of reach while it runs, and nothing of it is kept afterwards.

IPython needs the source once more, to show where an error was. It gets it when it asks, if no student code can run.
"""

from __future__ import annotations

import linecache
import sys
from collections.abc import Callable
from types import CodeType, FrameType
from typing import Any

_cache = linecache.cache
_LAST = ("last_type", "last_value", "last_traceback", "last_exc")


class Curtain:
    """The places where ``shell`` and ``kernel`` keep a cell's source, and those where an error keeps its frames."""

    def __init__(self, shell: Any, kernel: Any) -> None:
        self.shell, self.kernel = shell, kernel
        self.file = ""
        self.lines: Any = None

    def draw(self, file: str) -> None:
        """In the main thread, as the cell's code starts."""
        self.file, self.lines = file, _cache.pop(file, None)
        parent = self.kernel.__dict__["_shell_parent"].get(None)
        if type(parent) is dict and type(parent.get("content")) is dict:
            parent["content"] = {**parent["content"], "code": ""}

    def lift(self, asker: FrameType, run_code: CodeType, is_library: Callable[[CodeType], bool]) -> None:
        """An error's frame is asked for: if IPython is about to show the cell's, and it is plain, give the lines."""
        if self.lines is None:
            return
        frame: FrameType | None = asker
        while frame is not None and frame.f_code is not run_code:
            if not is_library(frame.f_code):
                return
            frame = frame.f_back
        if frame is not None and _is_plain(sys.exc_info()[1]):
            _cache[self.file] = self.lines
            self.lines = None

    def clear(self) -> None:
        """When the cell has ended."""
        _cache.pop(self.file, None)
        self.lines = None
        result = self.shell._trait_values.get("last_execution_result")
        own = getattr(result, "__dict__", {})
        own.update({name: None for name in ("error_before_exec", "error_in_exec") if name in own})
        if info := getattr(own.get("info"), "__dict__", None):
            info.update(raw_cell="", transformed_cell="")
        for name in _LAST:
            sys.__dict__.pop(name, None)
        self.shell.__dict__["_last_traceback"] = None
        self.shell.InteractiveTB.__dict__["tb"] = None


def _is_plain(error: BaseException | None) -> bool:
    """Whether showing it runs no student code: a library's exceptions that carry text and numbers."""
    for _ in range(10):
        if error is None:
            return True
        if type(error).__module__ == "__main__" or any(type(x) not in (str, int, float, bool) for x in error.args):
            return False
        if error.__dict__:
            return False
        error = error.__cause__ or error.__context__
    return False
