"""IPython's and ipykernel's own objects: the hooks, transformers and formatters through which a verdict passes."""

from __future__ import annotations

from collections.abc import Callable
from operator import is_not
from typing import Any

from gradekit.integrity.inside.protect import is_a, is_binding

_LISTS = frozenset((
    "cleanup_transforms", "line_transforms", "token_transformers", "input_transformers_post", "ast_transformers",
))  # fmt: skip
_TABLES = frozenset(("shell_handlers", "control_handlers"))
_PRINTERS = ("singleton_printers", "type_printers", "deferred_printers")
#: Settings that decide what a cell shows or how its error is reported. Others are the student's taste.
_SETTINGS = frozenset((
    "ast_node_interactivity", "custom_exceptions", "pdb", "_call_pdb", "call_pdb", "quiet", "exit_now", "mode",
    "enabled", "float_format", "float_precision", "pprint", "verbose", "compiler_class", "xmode",
    "ipython_display_formatter", "mimebundle_formatter",
))  # fmt: skip
_CHANGING = frozenset(("last_execution_result", "exec_result", "sys_excepthook", "old_hook", "kernel", "shell"))


class Shell:
    """The objects behind an IPython shell and its kernel, and what they held before student code."""

    def __init__(self, shell: Any, kernel: Any) -> None:
        self.shell, self.kernel = shell, kernel
        self.text_formatter = shell.display_formatter.formatters["text/plain"]
        self.displayhook = shell.displayhook
        display = shell.display_formatter
        self.formatters = [
            *display.formatters.values(), display.ipython_display_formatter, display.mimebundle_formatter,
        ]  # fmt: skip
        for formatter in self.formatters:
            for name in _PRINTERS:
                getattr(formatter, name)  # made on first use
        self.rebase()

    def rebase(self) -> None:
        """Take what is now for right. What IPython would make on first use is made."""
        self.parts = _parts([self.shell, self.kernel, *self.formatters])
        ids = {id(p) for p in self.parts}
        self.saved: list[tuple[str, Any, dict[str, Any], dict[str, Any]]] = []
        self.lists: list[tuple[str, list[Any], list[Any]]] = []
        self.tables: list[tuple[str, dict[Any, Any], dict[Any, Any]]] = []
        for part in self.parts:
            kind = type(part)
            for name in _SETTINGS | _LISTS:
                getattr(part, name, None)
            for namespace in _namespaces(part):
                kept = {}
                for key, value in namespace.items():
                    if key in _CHANGING:
                        continue
                    if key in _LISTS:
                        self.lists.append((f"{kind.__name__}.{key}", value, list(value)))
                    if key in _TABLES:
                        self.tables.append((f"{kind.__name__}.{key}", value, dict(value)))
                    if id(value) in ids or is_binding(value) or key in _SETTINGS | _LISTS | _TABLES:
                        kept[key] = value
                self.saved.append((kind.__name__, part, namespace, kept))
        self.builtins = self.shell.user_ns["__builtins__"]
        self.printers = [
            (f, name, dict(f._trait_values[name])) for f in self.formatters for name in _PRINTERS
        ]
        self.callbacks = {event: list(fs) for event, fs in self.shell.events.callbacks.items()}

    def restore(self, is_librarys_own: Callable[[Any], bool]) -> list[str]:
        """Put everything back; returns what was not as it should be."""
        found = []
        for title, part, namespace, kept in self.saved:
            for key, value in kept.items():
                if namespace.get(key, kept) is not value:
                    namespace[key] = value
                    found.append(f"{title}.{key}")
            if namespace is part.__dict__:
                kind = type(part)
                for key in [k for k in namespace.copy() if k not in kept and is_binding(getattr(kind, k, None))]:
                    if callable(namespace[key]) and key not in _CHANGING:
                        del namespace[key]  # it hid a method
                        found.append(f"{title}.{key}")
        for title, now, saved in self.lists:
            if len(now) != len(saved) or any(map(is_not, now, saved)):
                now[:] = saved
                found.append(title)
        for title, table, entries in self.tables:
            if len(table) != len(entries) or any(map(is_not, map(table.get, entries), entries.values())):
                table.clear()
                table.update(entries)
                found.append(title)
        if self.shell.user_ns.get("__builtins__") is not self.builtins:
            self.shell.user_ns["__builtins__"] = self.builtins
            found.append("__builtins__")
        return found + self._restore_printers(is_librarys_own) + self._restore_callbacks(is_librarys_own)

    def _restore_printers(self, is_librarys_own: Callable[[Any], bool]) -> list[str]:
        """A library may register how its own objects are shown; how a number is shown as text is not to be changed."""
        found = []
        for formatter, name, saved in self.printers:
            table = formatter._trait_values.get(name)
            if type(table) is not dict:
                table = formatter._trait_values[name] = {}
            for key, function in list(table.items()):
                if key in saved and saved[key] is function:
                    continue
                number = formatter is self.text_formatter and key in (int, float, bool, str, complex, type(None))
                if key in saved or number or not is_librarys_own(function):
                    del table[key]
                    found.append(f"a formatter for {_name(key)}")
            for key, function in saved.items():
                table.setdefault(key, function)
        return found

    def _restore_callbacks(self, is_librarys_own: Callable[[Any], bool]) -> list[str]:
        found = []
        for event, functions in self.shell.events.callbacks.items():
            saved = self.callbacks.get(event, [])
            kept = [f for f in functions if any(f is s for s in saved) or is_librarys_own(f)]
            missing = [s for s in saved if not any(s is f for f in kept)]
            if missing or len(kept) != len(functions):
                functions[:] = missing + kept
                found.append(f"the callbacks of {event}")
        return found


def _name(key: Any) -> str:
    return type.__dict__["__name__"].__get__(key) if is_a(key, type) else "an object"


def _namespaces(part: Any) -> list[dict[str, Any]]:
    own = part.__dict__
    traits = own.get("_trait_values")
    return [own, traits] if type(traits) is dict else [own]


def _parts(first: list[Any], depth: int = 2) -> list[Any]:
    """The objects of IPython's and ipykernel's classes that ``first`` refer to, directly or through one other."""
    found: dict[int, Any] = {id(p): p for p in first}
    level = first
    for _ in range(depth):
        level = [
            value
            for part in level
            for namespace in _namespaces(part)
            for value in list(namespace.values())
            if type(value).__module__.startswith(("IPython.", "ipykernel.", "jupyter_client."))
            and type(value).__module__ != "ipykernel.iostream"  # what a cell prints is no verdict
            and hasattr(value, "__dict__")
            and not is_a(value, type)
            and id(value) not in found
        ]
        found.update((id(p), p) for p in level)
    return list(found.values())
