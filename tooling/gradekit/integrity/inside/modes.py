"""torch's function and dispatch modes: a stack beside all names, through which every operation of a thread passes."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any


class Modes:
    """Takes the notebook's own modes off the stacks; a library's stay, such as the one of set_default_device()."""

    def __init__(self, is_librarys_own: Callable[[Any], bool]) -> None:
        self._is_librarys_own = is_librarys_own
        torch = sys.modules.get("torch")
        core: Any = getattr(torch, "_C", None)
        self._stacks: list[tuple[Any, ...]] = []
        if core is not None:
            self._stacks = [
                (core._len_torch_function_stack, core._get_function_stack_at, core._pop_torch_function_stack,
                 core._push_on_torch_function_stack),
                (core._len_torch_dispatch_stack, core._get_dispatch_stack_at, core._pop_torch_dispatch_stack,
                 core._push_on_torch_dispatch_stack),
            ]  # fmt: skip

    def restore(self) -> list[str]:
        """For the calling thread. Returns the names of the modes taken off."""
        found = []
        for length, at, pop, push in self._stacks:
            modes = [at(i) for i in range(length())]
            foreign = [m for m in modes if not self._is_librarys_own(type(m))]
            if foreign:
                for _ in modes:
                    pop()
                for mode in modes:
                    if mode not in foreign:
                        push(mode)
                found += [f"a torch mode ({type(m).__name__})" for m in foreign]
        return found
