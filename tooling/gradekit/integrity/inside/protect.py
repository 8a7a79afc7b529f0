"""What verdicts rest on: which modules and classes are protected, and which of their names."""

from __future__ import annotations

import builtins
import dis
import sys
from collections.abc import Iterator
from functools import partial
from types import BuiltinFunctionType, CodeType, FunctionType, MethodType, ModuleType
from typing import Any

from gradekit.integrity.inside.versions import dict_of

#: Packages that tests compare, count and time with, or that carry a verdict out of the kernel. Their bindings are put
#: back whatever took their place.
STRICT = frozenset(sys.stdlib_module_names) | {
    "numpy", "torch", "labkit", "IPython", "ipykernel", "traitlets", "jupyter_client", "zmq", "tornado", "pytest",
    "_pytest", "pluggy", "nose", "hypothesis",
}  # fmt: skip
#: Assert helpers: plain values and containers count too, such as a table of tolerances.
HELPERS = (
    "labkit.checking", "numpy.testing", "torch.testing", "unittest.case", "unittest.util", "pandas._testing", "nose",
    "_pytest.python_api",
)  # fmt: skip
#: Modules whose names are the student's.
NOTEBOOKS = ("__main__", "__mp_main__")
#: Where libraries themselves put something else for a while: a change that left no trace says nothing.
_RESTLESS = ("sys", "warnings", "torch.nn.", "torch.optim", "torch.utils.", "torch.fx", "torch._dynamo",
             "torch._inductor", "torch.distributed", "ipykernel.iostream")  # fmt: skip
_KEPT_BY_PYTHON = frozenset((
    "__warningregistry__", "__builtins__", "__annotations__", "__doc__", "__dict__", "__weakref__", "_abc_impl",
    "__abstractmethods__", "__static_attributes__", "__firstlineno__", "__spec__", "__cached__", "__loader__",
    "__package__", "__path__", "__file__", "__name__", "displayhook", "excepthook",
))  # fmt: skip


def is_a(value: Any, kind: type) -> bool:
    """``isinstance`` that does not ask the value."""
    return issubclass(type(value), kind)


def is_binding(value: Any) -> bool:
    """Whether a name that holds ``value`` means behaviour (a function, class, descriptor), not state."""
    return callable(value) or hasattr(type(value), "__get__") or type(value) is ModuleType


class Protected:
    """One dict with the names in it that are put back. ``saved`` is what they held before any student code ran.

    ``strict``: put back whatever took a name's place; else what a library put there itself stays. ``everything``: plain
    values count as well as bindings. ``seen`` is the whole dict as last looked at.
    """

    __slots__ = ("cls", "everything", "namespace", "restless", "saved", "seen", "strict", "title")

    def __init__(
        self, title: str, namespace: dict[str, Any], *, strict: bool, everything: bool = False, cls: type | None = None
    ) -> None:
        self.title, self.namespace, self.cls = title, namespace, cls
        self.strict, self.everything = strict, everything
        self.restless = not strict or title.startswith(_RESTLESS) or (cls is None and _writes_itself(title, namespace))
        self.saved = self.seen = namespace.copy()

    def covers(self, name: str, value: Any) -> bool:
        return (self.everything or is_binding(value)) and name not in _KEPT_BY_PYTHON

    def changed(self) -> list[str]:
        """Protected names that hold something else now, and new names that hide what tests rely on."""
        now, saved = self.namespace, self.saved
        found = [k for k, v in saved.items() if now.get(k, _GONE) is not v and self.covers(k, v)]
        return found + [k for k in now.copy() if k not in saved and self._hides(k)]

    def _hides(self, name: Any) -> bool:
        if type(name) is not str or name in _KEPT_BY_PYTHON:
            return False
        if not callable(new := self.namespace.get(name)) and type(new) not in (property, staticmethod, classmethod):
            return False
        if self.cls is None:
            return name in _BUILTINS
        return any(name in base.__dict__ for base in _bases(self.cls))

    def put_back(self, name: str) -> None:
        value = self.saved.get(name, _GONE)
        try:
            if self.cls is not None and value is _GONE:
                type.__delattr__(self.cls, name)
            elif self.cls is not None:
                type.__setattr__(self.cls, name, value)
            elif value is _GONE:
                del self.namespace[name]
            else:
                self.namespace[name] = value
        except TypeError:  # a class that takes no assignment was written to all the same, in memory
            if value is _GONE:
                del self.namespace[name]
            else:
                self.namespace[name] = value
            _type_modified(_as_object(self.cls))


def _bases(cls: type | None) -> tuple[type, ...]:
    return type.__dict__["__mro__"].__get__(cls)[1:] if cls is not None else ()


class _Gone:
    __slots__ = ()


_GONE = _Gone()
_BUILTINS = frozenset(vars(builtins))
_STORE_GLOBAL = dis.opmap["STORE_GLOBAL"]


def find(modules: dict[str, Any], seen: set[int]) -> Iterator[Protected]:
    """All dicts to protect in these modules: their own, their classes', helpers' tables. ``seen``: known ids."""
    for name, module in modules.items():
        if not is_a(module, ModuleType) or name in NOTEBOOKS or id(module.__dict__) in seen:
            continue
        seen.add(id(module.__dict__))
        strict, helper = name.partition(".")[0] in STRICT, name.startswith(HELPERS)
        yield Protected(name, module.__dict__, strict=strict, everything=helper)
        if not strict:
            continue
        for key, value in list(module.__dict__.items()):
            if is_a(value, type):
                for cls in type.__dict__["__mro__"].__get__(value):
                    title = f"{cls.__module__}.{cls.__qualname__}"
                    if id(cls) not in seen and title.partition(".")[0] in STRICT:
                        seen.add(id(cls))
                        whole = title.startswith(("IPython.", "ipykernel."))
                        yield Protected(title, dict_of(cls), strict=True, everything=whole, cls=cls)
            elif type(value) is dict and helper and key not in _KEPT_BY_PYTHON and id(value) not in seen:
                seen.add(id(value))
                yield Protected(f"{name}.{key}", value, strict=True, everything=True)


def _writes_itself(title: str, namespace: dict[str, Any]) -> bool:
    """Whether functions of a module assign its globals (``global flag``), as for the time of a ``with`` block.

    labkit's never count: tests rest on nothing else as much.
    """
    waiting = []
    for value in () if title.startswith("labkit") else namespace.copy().values():
        for inner in type.__dict__["__dict__"].__get__(value).values() if is_a(value, type) else (value,):
            inner = _unwrapped(inner)
            if type(inner) is FunctionType and inner.__globals__ is namespace:
                waiting.append(inner.__code__)
    while waiting:
        code = waiting.pop()
        if _STORE_GLOBAL in code.co_code[::2]:
            return True
        waiting += [constant for constant in code.co_consts if type(constant) is CodeType]
    return False


def _unwrapped(value: Any) -> Any:
    """The function under the usual wrappers."""
    for attribute in ("__func__", "fget"):
        value = getattr_static(value, attribute)
    while type(value) is FunctionType and "__wrapped__" in value.__dict__:
        value = value.__dict__["__wrapped__"]
    return value


def functions(protected: list[Protected]) -> dict[int, tuple[str, FunctionType]]:
    """All Python functions that protected names hold, directly or under the usual wrappers."""
    found: dict[int, tuple[str, FunctionType]] = {}
    for item in protected:
        for key, value in item.saved.items():
            inner = value
            for attribute in ("__func__", "fget", "__wrapped__"):
                if type(inner) is not FunctionType:
                    inner = getattr_static(inner, attribute)
            if type(inner) is FunctionType:
                found.setdefault(id(inner), (f"{item.title}.{key}", inner))
    return found


def getattr_static(value: Any, attribute: str) -> Any:
    """``value.attribute`` where that is a C slot or an entry of its own dict; else ``value``."""
    kind = type(value)
    if kind in (staticmethod, classmethod, property) and attribute in kind.__dict__:
        return getattr(value, attribute)
    return value


def is_librarys_own(value: Any, library: dict[int, Any]) -> bool:
    """Whether a binding is a library's, by where its code looks up names. ``library``: modules' dicts by id."""
    if type(value) is partial:
        return is_librarys_own(value.func, library)
    if type(value) is MethodType:
        return is_librarys_own(value.__func__, library)
    if type(value) is FunctionType:
        return id(value.__globals__) in library
    if is_a(value, type):
        return _is_where_it_says(value, library)
    if type(value) is BuiltinFunctionType or type(value) is ModuleType:
        return True
    return is_librarys_own(type(value), library)


def _is_where_it_says(cls: type, library: dict[int, Any]) -> bool:
    """Whether a class is found under its name in the library's module that it claims as its own."""
    module = sys.modules.get(type.__dict__["__module__"].__get__(cls))
    if not is_a(module, ModuleType) or id(module.__dict__) not in library:
        return False
    found: Any = module
    for part in type.__dict__["__qualname__"].__get__(cls).split("."):
        found = (found.__dict__ if found is module else type.__dict__["__dict__"].__get__(found)).get(part)
        if not is_a(found, type):
            return False
    return found is cls


def _ctypes() -> tuple[Any, Any]:
    import ctypes

    return ctypes.pythonapi.PyType_Modified, ctypes.py_object


_type_modified, _as_object = _ctypes()
