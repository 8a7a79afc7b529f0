"""The notebook's names for what its locked cells define and import: tests look these up while they run."""

from __future__ import annotations

from types import BuiltinFunctionType, FunctionType, ModuleType
from typing import Any

from gradekit.integrity.inside.protect import is_a

_MISSING = object()


class Given:
    """Name -> module, function or class. Values that are data are the student's to change."""

    def __init__(self, namespace: dict[str, Any]) -> None:
        self.namespace = namespace
        self.kept: dict[str, Any] = {}

    def learn(self, names: list[str]) -> None:
        """A locked cell that gives these names has run."""
        for name in names:
            value = self.namespace.get(name)
            if type(value) in (FunctionType, ModuleType, BuiltinFunctionType) or is_a(value, type):
                self.kept[name] = value
            else:
                self.kept.pop(name, None)

    def restore(self) -> list[str]:
        """Put them back; returns which were something else."""
        found = []
        for name, value in self.kept.items():
            if self.namespace.get(name, _MISSING) is not value:
                self.namespace[name] = value
                found.append(f"the notebook's {name}")
        return found
