"""The state that verdicts rest on, as it was before student code: put back, and compared.

Most of it is dicts, and an unchanged dict costs one comparison of its stamp (see ``versions``). The rest is small: what
closures hold, the classes of modules, the entries of ``sys.modules``, and a few lists.
"""

from __future__ import annotations

import sys
from functools import partial
from importlib.machinery import PathFinder
from operator import is_not
from types import CellType, FunctionType, ModuleType
from typing import Any

from gradekit.integrity.inside import protect, versions
from gradekit.integrity.inside.protect import NOTEBOOKS

_contents = CellType.__dict__["cell_contents"].__get__
_set_contents = CellType.__dict__["cell_contents"].__set__
_modules = sys.modules
_find_spec = PathFinder.find_spec
_SEARCHED = ("meta_path", "path_hooks")


class Snapshot:
    """Taken in the fork server. Without stamps (``stamped`` False) every dict is compared at each look."""

    def __init__(self) -> None:
        self.stamped = versions.works()
        self.modules = {n: m for n, m in _modules.copy().items() if n not in NOTEBOOKS}
        self.known: set[int] = set()
        self.protected = list(protect.find(self.modules, self.known))
        functions = [f for _, f in protect.functions([p for p in self.protected if p.strict]).values()]
        self.protected += [
            protect.Protected(f"{f.__module__}.{f.__qualname__}'s keyword defaults", f.__kwdefaults__, strict=True,
                              everything=True)
            for f in functions if f.__kwdefaults__
        ]  # fmt: skip
        cells = [(f, c) for f in functions for c in f.__closure__ or () if _is_set(c)]
        cells = [(f, c) for f, c in cells if type(_contents(c)) is FunctionType or protect.is_a(_contents(c), type)]
        self.cells = [c for _, c in cells]
        self.cell_titles = [f"{f.__module__}.{f.__qualname__}" for f, _ in cells]
        self.held = [_contents(c) for c in self.cells]
        self.kinds = [(m, type(m)) for m in self.modules.values() if protect.is_a(m, ModuleType)]
        self.library = {id(m.__dict__): m.__dict__ for m in self.modules.values() if protect.is_a(m, ModuleType)}
        self.late: set[int] = set()
        self.imported: set[Any] = set()  # their names
        self.arrived: list[dict[str, Any]] = []  # modules of libraries that were imported since: the audit hook tells
        self.lists = [(f"sys.{n}", getattr(sys, n), list(getattr(sys, n))) for n in _SEARCHED]
        self.path = list(sys.path)
        self.folders = list(sys.path)  # before that of the submission is added
        self.finders = dict(sys.path_importer_cache)
        self.replaced: list[tuple[Any, str, Any]] = []  # function, attribute, what it was: the audit hook tells
        self.stamps = versions.stamps([p.namespace for p in self.protected]) if self.stamped else []
        self.at = [s.value for s in self.stamps]

    def rebase(self) -> None:
        """Take what is now for right: called once in a kernel, before student code, after ipykernel's own set-up."""
        loaded = [m.__dict__ for n, m in _modules.copy().items() if n not in NOTEBOOKS and protect.is_a(m, ModuleType)]
        self.library.update((id(d), d) for d in loaded)
        self.arrived += [d for d in loaded if id(d) not in self.known]
        self.admit()
        for p in self.touched():
            p.saved = p.seen = p.namespace.copy()
        self.at = [s.value for s in self.stamps]
        self.path = list(sys.path)
        self.lists = [(title, now, list(now)) for title, now, _ in self.lists]

    def admit(self) -> None:
        """Protect the libraries that were imported since the last time, as they are now."""
        fresh: dict[str, Any] = {}
        while self.arrived:
            namespace = self.arrived.pop()
            name = namespace.get("__name__")
            if type(name) is not str:
                continue
            module = _modules.get(name)
            if protect.is_a(module, ModuleType) and module.__dict__ is namespace:
                fresh[name] = module
        if fresh:
            self.modules.update(fresh)
            new = list(protect.find(fresh, self.known))
            self.protected += new
            if self.stamped:
                stamps = versions.stamps([p.namespace for p in new])
                self.stamps += stamps
                self.at += [s.value for s in stamps]

    def arrive(self, namespace: dict[str, Any]) -> None:
        """The import system starts to run a library's module."""
        self.library[id(namespace)] = namespace
        self.imported.add(namespace.get("__name__"))
        self.late.add(id(namespace))
        self.arrived.append(namespace)

    def touched(self) -> list[protect.Protected]:
        """The dicts that were written to since the last look."""
        if not self.stamped:
            return self.protected
        at = [s.value for s in self.stamps]
        if at == self.at:
            return []
        return [p for p, new, old in zip(self.protected, at, self.at) if new != old]  # noqa: B905 (C speed)

    def look(self) -> None:
        """From here on, what is written shows up as touched."""
        for p in self.touched():
            p.seen = p.namespace.copy()
        self.at = [s.value for s in self.stamps]

    def restore(self) -> list[str]:
        """Put everything back. Returns what was not as it should be, by name."""
        found = []
        for p in self.touched():
            for name in p.changed():
                if self._is_librarys_doing(p, name):
                    p.saved[name] = p.namespace[name]
                    continue
                p.put_back(name)
                found.append(f"{p.title}.{name}")
        found += self._restore_functions()
        found += self._restore_modules()
        found += self._restore_lists()
        return found

    def _is_librarys_doing(self, p: protect.Protected, name: str) -> bool:
        """Libraries put their own things in other libraries; in what tests rest on, only wrappers of what was there."""
        new, old = p.namespace.get(name), p.saved.get(name)
        if not protect.is_librarys_own(new, self.library):
            return False
        if not p.strict:
            return True
        inner = new.func if type(new) is partial else new
        if type(inner) is not FunctionType:
            return False
        if id(inner.__globals__) in self.late:  # what is imported later may extend what was there
            return name not in p.saved
        if name not in p.saved:  # such as an optimizer's hooked step
            return inner.__name__ == name
        return type(old) is FunctionType and inner.__qualname__ == old.__qualname__

    def silent(self) -> list[str]:
        """Dicts that were written to since the last look and hold exactly what they held: put back by somebody."""
        if not self.stamped:
            return []
        return [p.title for p in self.touched() if not p.restless and _same(p.seen, p.namespace)]

    def _restore_functions(self) -> list[str]:
        found = []
        while self.replaced:
            function, attribute, value = self.replaced.pop()
            setattr(function, attribute, value)
            found.append(f"{function.__module__}.{function.__qualname__}.{attribute}")
        if any(map(is_not, map(_contents, self.cells), self.held)):
            for cell, value, title in zip(self.cells, self.held, self.cell_titles, strict=True):
                if not _is_set(cell) or _contents(cell) is not value:
                    _set_contents(cell, value)
                    found.append(f"{title}'s closure")
        return found

    def _restore_modules(self) -> list[str]:
        found = []
        for name, module in self.modules.items():
            if _modules.get(name) is not module:
                _modules[name] = module
                found.append(f"sys.modules[{name!r}]")
        for name in [n for n in _modules.copy() if n not in self.modules and self._is_fake(n)]:
            del _modules[name]  # who imports it next gets the real one
            found.append(f"sys.modules[{name!r}]")
        for module, kind in self.kinds:
            if type(module) is not kind:
                object.__setattr__(module, "__class__", kind)
                found.append(f"the class of {module.__name__}")
        return found

    def _is_fake(self, name: str) -> bool:
        """Whether something is there under the name of a library's module that the import system did not make."""
        module = _modules.get(name)
        if module is None or name in NOTEBOOKS or type(name) is not str:
            return False
        if name in self.imported:  # a library may put its own kind of module in the place of the first one
            return False
        if protect.is_a(module, ModuleType) and id(module.__dict__) in self.library:
            return False
        parent = name.rpartition(".")[0]
        if parent and parent not in self.modules:
            return False
        path = getattr(self.modules[parent], "__path__", None) if parent else self.folders
        if not isinstance(path, list):
            return False
        spec = _find_spec(name, path)
        return spec is not None and str(spec.origin).endswith(".py")

    def _restore_lists(self) -> list[str]:
        found = []
        for title, now, saved in self.lists:
            if getattr(sys, title.removeprefix("sys.")) is not now or len(now) != len(saved) or any(
                map(is_not, now, saved)
            ):
                now[:] = saved
                setattr(sys, title.removeprefix("sys."), now)
                found.append(title)
        added = [p for p in sys.path if type(p) is str and p not in self.path]
        if sys.path[: len(self.path)] != self.path:  # an added folder is the student's right, but after the libraries
            sys.path[:] = self.path + added
        for folder, finder in self.finders.items():
            if finder is not None and sys.path_importer_cache.get(folder) is not finder:
                sys.path_importer_cache[folder] = finder
        return found


def _is_set(cell: CellType) -> bool:
    try:
        _contents(cell)
    except ValueError:
        return False
    return True


def _same(left: dict[Any, Any], right: dict[Any, Any]) -> bool:
    return len(left) == len(right) and not any(map(is_not, map(right.get, left), left.values()))
