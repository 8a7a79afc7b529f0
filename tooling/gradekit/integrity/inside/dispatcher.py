"""The kernels behind torch's comparisons, in a table below every Python name."""

from __future__ import annotations

import sys
from typing import Any

_OPERATORS = ("allclose", "isclose", "equal", "eq.Tensor", "eq.Scalar", "ne.Tensor", "le.Tensor", "lt.Tensor",
              "ge.Tensor", "gt.Tensor", "sub.Tensor", "abs", "all", "any", "isfinite", "isnan", "max",
              "item")  # fmt: skip
#: Where a plain call may end up. Libraries register for other keys when they are first used.
_KEYS = ("CPU", "CUDA", "AutogradCPU", "AutogradCUDA", "AutocastCPU", "AutocastCUDA")


class Dispatcher:
    """The entries as they were before student code."""

    def __init__(self) -> None:
        core: Any = getattr(sys.modules.get("torch"), "_C", None)
        self._dump: Any = getattr(core, "_dispatch_dump_table", None)
        self.saved = {name: self._entries(name) for name in _OPERATORS} if self._dump else {}

    def changed(self) -> list[str]:
        """Operators that have another kernel now."""
        return [name for name, entries in self.saved.items() if self._entries(name) != entries]

    def _entries(self, name: str) -> list[str]:
        lines = self._dump(f"aten::{name}").splitlines()
        return [line for line in lines if line.partition(":")[0] in _KEYS]
