"""When a dict was last written to, without looking at what is in it.

CPython stamps a dict with the next number of one counter at each change (``ma_version_tag``, PEP 509). So a name that
was replaced and put back shows. The stamp is read from memory; ``works`` says whether this interpreter keeps it where
we read. Written for CPython 3.11 to 3.13 and run on 3.11; 3.14 has no stamps.
"""

from __future__ import annotations

import ctypes
import gc
import sys
from collections.abc import Sequence
from typing import Any

_OFFSET = object.__basicsize__ + ctypes.sizeof(ctypes.c_ssize_t)  # behind the object's head and ma_used
_TAG = ctypes.c_uint64
_at = _TAG.from_address


def works() -> bool:
    """Whether a dict's stamp is where we read it: changed by each way of writing, and by nothing else."""
    if sys.implementation.name != "cpython" or hasattr(sys, "getobjects") or sys.version_info >= (3, 14):
        return False
    sample: dict[str, Any] = {"a": 1, "b": 2}
    other = dict(sample)
    tag, others = _at(id(sample) + _OFFSET), _at(id(other) + _OFFSET)
    before, kept = tag.value, others.value
    sample["a"], sample.get("b"), len(sample), list(sample.items())
    if tag.value != before:
        return False
    seen = {before}
    for write in (
        lambda: sample.__setitem__("a", 3),
        lambda: sample.__setitem__("a", 1),
        lambda: sample.update(c=1),
        lambda: sample.pop("c"),
        lambda: sample.setdefault("d", 4),
        lambda: sample.clear(),
    ):
        write()
        if tag.value in seen:
            return False
        seen.add(tag.value)

    class Sample:
        x = 1

    namespace = dict_of(Sample)
    tag = _at(id(namespace) + _OFFSET)
    before = tag.value
    Sample.x = 2
    changed = tag.value
    Sample.x = 1
    return before != changed != tag.value != before and others.value == kept


def stamps(dicts: Sequence[dict[Any, Any]]) -> list[Any]:
    """For each dict, an object whose ``value`` is its stamp. The dicts must outlive them."""
    return [_at(id(d) + _OFFSET) for d in dicts]


def dict_of(cls: type) -> dict[str, Any]:
    """The dict behind a class's read-only ``__dict__``."""
    found: dict[str, Any]
    (found,) = gc.get_referents(type.__dict__["__dict__"].__get__(cls))
    return found
