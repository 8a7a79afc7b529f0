"""What the audit hook makes of an event: who asks, for what, and whether anybody outside should know.

An audit hook cannot be removed from Python, and runs before what it reports. An event counts when the code that asks is
the notebook's own, or the library function that it called just for this; a library that asks for its own purposes
(logging, dataclasses, namedtuple, warnings, torch) is nothing.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from types import CodeType, FrameType, FunctionType
from typing import Any

_getframe, _refcount = sys._getframe, sys.getrefcount
#: References to a frame that nobody keeps: its generator's, a variable's, an argument's.
_UNKEPT = 3

#: Event -> what it gives, while a graded cell runs.
REACHES = {
    "sys._current_frames": "the frames of all threads",
    "sys._current_exceptions": "the exceptions of all threads",
    "sys.settrace": "a trace function",
    "sys.setprofile": "a profile function",
    "sys.monitoring.register_callback": "a monitoring callback",
    "gc.get_objects": "all objects of the process",
    "gc.get_referrers": "what refers to an object",
    "gc.get_referents": "what an object refers to",
    "ctypes.cdata": "memory at an address",
    "ctypes.cdata/buffer": "memory at an address",
    "ctypes.string_at": "memory at an address",
    "ctypes.wstring_at": "memory at an address",
    "ctypes.PyObj_FromPtr": "an object at an address",
    "ctypes.addressof": "an object's address",
}
_FRAMES_OF = frozenset(("tb_frame", "gi_frame", "cr_frame", "ag_frame"))
_RESUMES = 0x20 | 0x80 | 0x200  # the flags of generators and coroutines: such a frame runs again, below another caller
_CODE = frozenset(("__code__", "__defaults__", "__kwdefaults__"))
WATCHED = frozenset(REACHES) | {
    "sys._getframe", "object.__getattr__", "object.__setattr__", "object.__delattr__", "exec", "compile",
    "code.__new__", "open", "ctypes.dlsym", "sys.addaudithook",
}  # fmt: skip
#: Library modules whose functions hand frames to whoever called them.
_HELPERS = ("/inspect.py", "/traceback.py", "/pdb.py", "/bdb.py", "/IPython/utils/frame.py", "/asyncio/base_tasks.py",
            "/threading.py", "/operator.py", "/unittest/mock.py", "/ctypes/__init__.py")  # fmt: skip
_CURRENT_FRAME = ("<lambda>", "currentframe")  # logging's, which its own findCaller uses
#: Their functions that turn an exception into text, which honest code does with its own errors.
_HARMLESS = frozenset((
    "print_exc", "format_exc", "print_exception", "format_exception", "format_exception_only", "print_tb", "format_tb",
    "extract_tb", "print_last", "from_exception", "__init__", "clear_frames", "start", "_bootstrap", "run",
))  # fmt: skip


class Refused(RuntimeError):
    """What an event would do is not to happen."""


def _hands_frames_over(code: CodeType) -> bool:
    name = code.co_filename
    return name.endswith(_HELPERS) or (name.endswith("/logging/__init__.py") and code.co_name in _CURRENT_FRAME)


class Auditor:
    """Judges events. ``report(kind, what)`` is called, before the event has any effect, for each that counts."""

    def __init__(self, library: tuple[str, ...], report: Callable[[str, str], None]) -> None:
        self.library = (*library, "<frozen ")  # folders, and the import system
        self.report = report
        self.graded = False
        self.trusted: set[str] = set()  # file names of locked cells
        self._resumable: list[FrameType] = []  # frames of generators that the notebook has looked at
        self.replaced: list[tuple[Any, str, Any]] = []
        self.protected: Callable[[Any], bool] = lambda function: False

    def is_library(self, code: CodeType) -> bool:
        return code.co_filename.startswith(self.library)

    def is_locked(self, code: CodeType) -> bool:
        return code.co_filename in self.trusted

    def judge(self, event: str, args: tuple[Any, ...], asker: FrameType) -> None:
        """``event`` is one of WATCHED; ``asker`` the Python frame that caused it."""
        if event == "object.__setattr__" or event == "object.__delattr__":
            self._attribute_set(args, asker)
        elif event == "object.__getattr__":
            if args[1] in _FRAMES_OF:
                self._frame_read(getattr(args[0], args[1]), asker)
            elif args[1] == "__code__":
                self._code_read(args[0], asker)
        elif event == "sys._getframe":
            self._frame_read(args[0] if args else asker, asker)
        elif event in REACHES:
            if self.graded:
                self._reached(REACHES[event], asker)
            elif event.startswith("ctypes."):
                self._prepared(REACHES[event], asker)
        elif event == "ctypes.dlsym":
            self._prepared(f"the function {args[1]} of a native library", asker)
        elif event == "open":
            self._opened(args[0])
        elif event == "compile" or event == "code.__new__":
            self._disguised(args[1], asker)
        elif event == "sys.addaudithook" and self._notebook_behind(asker) is not None:
            self.report("audit", "added an audit hook, which would have seen the code of the tests; it was refused")
            raise Refused("audit hooks are not allowed here")

    def begin(self) -> None:
        """A graded cell starts. A generator's frame leads nowhere now, and to the test once it is resumed there."""
        kept, self._resumable = self._resumable, []
        while kept:
            frame = kept.pop()
            if _refcount(frame) > _UNKEPT:
                self._resumable.append(frame)
                name = frame.f_code.co_name
                self.report("frames", f"the notebook keeps the frame of its generator {name}, which leads to the test")

    # -- who asks --------------------------------------------------------------------------------------------------

    def _notebook_behind(self, asker: FrameType) -> FrameType | None:
        """The notebook's frame that asks, itself or through a helper; None when a library or a locked cell does."""
        frame: FrameType | None = asker
        entry = ""
        while frame is not None and self.is_library(frame.f_code):
            if not _hands_frames_over(frame.f_code):
                return None
            entry = frame.f_code.co_name
            frame = frame.f_back
        if frame is None or self.is_locked(frame.f_code) or entry in _HARMLESS:
            return None
        return frame

    def _reached(self, what: str, asker: FrameType) -> None:
        frame = self._notebook_behind(asker)
        if frame is not None:
            where = f"line {frame.f_lineno} of {frame.f_code.co_name}"
            self.report("frames", f"while the test ran, the notebook ({where}) reached for {what}")

    def _prepared(self, what: str, asker: FrameType) -> None:
        """Around Python: what is taken hold of before a test can be used in it without being seen."""
        frame = self._notebook_behind(asker)
        if frame is not None:
            self.report("memory", f"line {frame.f_lineno} of {frame.f_code.co_name} reached for {what}")

    def _frame_read(self, obtained: FrameType | None, asker: FrameType) -> None:
        """Evidence when the way from this frame up leads to a test's, whose variables hold what it expects."""
        if obtained is None:
            return
        caller: FrameType | None = asker
        in_library = self.is_library(asker.f_code) and not _hands_frames_over(asker.f_code)
        if in_library:  # simulated kernels come here for each access: what is a library's right is settled first
            while caller is not None and self.is_library(caller.f_code):
                if caller is obtained:
                    return
                caller = caller.f_back
            if caller is None or caller is obtained:
                return
        if self._leads_to_test(obtained):
            if in_library and caller is not None:
                self._beyond_caller(obtained, caller)
            else:
                self._reached("the frames of its callers", asker)
        elif obtained.f_code.co_flags & _RESUMES and self._notebook_behind(asker) is not None:
            self._resumable = [frame for frame in self._resumable if frame is not obtained] + [obtained]

    def _leads_to_test(self, frame: FrameType | None) -> bool:
        while frame is not None:
            if frame.f_code.co_filename in self.trusted:
                return True
            frame = frame.f_back
        return False

    def _beyond_caller(self, obtained: FrameType, caller: FrameType) -> None:
        """A library asked for a frame: of itself, of who called it and of what it called (an error's traceback) is its
        right; above its caller lies the test.
        """
        if self.is_locked(caller.f_code) or self.is_library(obtained.f_code):
            return
        above = caller.f_back
        while above is not None:
            if above is obtained:
                name = caller.f_code.co_name
                self.report("frames", f"while the test ran, {name} had a library look up the names of its callers")
                return
            above = above.f_back

    # -- what for --------------------------------------------------------------------------------------------------

    def _code_read(self, owner: Any, asker: FrameType) -> None:
        if not self.trusted or type(owner) is not FunctionType:
            return
        if self.is_library(asker.f_code) and not _hands_frames_over(asker.f_code):
            return
        if self.is_locked(owner.__code__) and self._notebook_behind(asker) is not None:
            self.report("frames", f"the notebook read the code of the test's function {owner.__name__}")

    def _attribute_set(self, args: tuple[Any, ...], asker: FrameType) -> None:
        owner, name = args[0], args[1]
        if type(owner) is FunctionType and name in _CODE and self.protected(owner):
            if self._notebook_behind(asker) is None:
                return
            self.replaced.append((owner, name, getattr(owner, name)))
            if self.graded:
                title = f"{owner.__module__}.{owner.__qualname__}"
                self.report("tampered", f"while the test ran, the notebook replaced {name} of {title}")

    def _opened(self, path: Any) -> None:
        if type(path) is bytes:
            path = path.decode("utf-8", "replace")
        if type(path) is str and path.startswith("/proc/") and path.endswith("/mem"):
            self.report("memory", "opened the memory of a process as a file")

    def _disguised(self, filename: Any, asker: FrameType) -> None:
        """Code that claims to come from a library or a test would be taken for one."""
        if type(filename) is bytes:
            filename = filename.decode("utf-8", "replace")
        if type(filename) is not str or self.is_library(asker.f_code) or self.is_locked(asker.f_code):
            return
        if filename.startswith(self.library) or filename in self.trusted:
            self.report("disguise", "compiled code under the name of a library's or a test's file")
