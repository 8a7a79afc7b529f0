"""The notebook's names for what its locked cells define and import: tests look these up while they run."""

from __future__ import annotations

from collections.abc import Callable
from types import BuiltinFunctionType, CodeType, FunctionType, ModuleType
from typing import Any

from gradekit.integrity.inside.protect import is_a

_MISSING = object()


class Given:
    """Name -> module, function or class. Values that are data are the student's to change.

    ``is_locked`` says whether code is that of a locked cell.
    """

    def __init__(self, namespace: dict[str, Any], is_locked: Callable[[CodeType], bool]) -> None:
        self.namespace, self._is_locked = namespace, is_locked
        self.kept: dict[str, Any] = {}

    def learn(self, names: list[str]) -> list[str]:
        """A locked cell that gives these names has run; returns which hold a function of an unlocked cell."""
        found = []
        for name in names:
            value = self.namespace.get(name)
            if type(value) is FunctionType and self._is_anothers(value):
                self.kept.pop(name, None)
                found.append(f"the notebook's {name}")
            elif type(value) in (FunctionType, ModuleType, BuiltinFunctionType) or is_a(value, type):
                self.kept[name] = value
            else:
                self.kept.pop(name, None)
        return found

    def _is_anothers(self, function: FunctionType) -> bool:
        return function.__globals__ is self.namespace and not self._is_locked(function.__code__)

    def restore(self) -> list[str]:
        """Put them back; returns which were something else."""
        found = []
        for name, value in self.kept.items():
            if self.namespace.get(name, _MISSING) is not value:
                self.namespace[name] = value
                found.append(f"the notebook's {name}")
        return found
