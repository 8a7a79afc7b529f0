"""The guard's part inside the kernel: what it protects, how it notices, and whom it tells.

These modules share a process with hostile code. So they are loaded in the fork server, before any of it exists, with a
private copy of the builtins; at run time they call nothing but C functions that they hold themselves; and once loaded
they are taken out of ``sys.modules``. Nothing that Python code can name leads to them but the audit hook and the frame
of one thread, and asking for either is an audit event.
"""

from __future__ import annotations

import builtins
import importlib.abc
import importlib.util
import sys
from types import CodeType
from typing import Any

_PARTS = ("versions", "channel", "protect", "snapshot", "shell", "audit", "curtain", "modes",
          "signals", "dispatcher", "given", "watch")  # fmt: skip


def read() -> list[tuple[str, CodeType]]:
    """The guard's code, in the order of loading. Called while gradekit's files can still be seen."""
    found = []
    for part in _PARTS:
        spec = importlib.util.find_spec(f"{__name__}.{part}")
        assert spec and isinstance(spec.loader, importlib.abc.InspectLoader)
        code = spec.loader.get_code(spec.name)
        assert code
        found.append((spec.name, code))
    return found


def load(parts: list[tuple[str, CodeType]]) -> Any:
    """A new guard, which nothing else refers to: see ``watch.Watch``."""
    private = dict(vars(builtins))
    modules: dict[str, Any] = {}
    for name, code in parts:
        module = sys.modules[name] = type(sys)(name)
        module.__dict__.update(__builtins__=private, __package__=__name__, __file__=code.co_filename)
        exec(code, module.__dict__)
        modules[name] = module
    for name in modules:
        del sys.modules[name]
        vars(sys.modules[__name__]).pop(name.rpartition(".")[2], None)
    return modules[parts[-1][0]].Watch()
