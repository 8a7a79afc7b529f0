"""The hidden regions of a test cell, and the checks that their author names for students.

    ### BEGIN HIDDEN TESTS
    # check: lengths that are no power of two
    # hint: print what the last block reads for n = 13
    ...
    ### END HIDDEN TESTS

A check runs to the next one, or to the end of its region. Students see its name and hint, never its code.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from nbgrader.preprocessors import ClearHiddenTests
from traitlets.config import Config

_CHECK = re.compile(r"\s*#\s*check:\s*(.*?)\s*$")
_HINT = re.compile(r"\s*#\s*hint:\s*(.*?)\s*$")


@dataclass(frozen=True)
class Check:
    """A part of a hidden region, lines ``first`` to ``last`` of its cell; without a name when its author gave none."""

    name: str
    hint: str
    first: int
    last: int


@dataclass(frozen=True)
class Region:
    """A hidden region with its two markers, lines ``first`` to ``last`` of its cell, counted from 1."""

    first: int
    last: int
    checks: tuple[Check, ...]


def regions(source: str, config: Config | None = None) -> list[Region]:
    """The hidden regions of a cell; one that is not closed runs to the cell's end.

    Args:
        config: may set other markers, as for nbgrader's ``ClearHiddenTests``.
    """
    markers = ClearHiddenTests(config=config)
    lines = source.split("\n")
    found, first = [], 0
    for number, line in enumerate(lines, 1):
        if not first and markers.begin_test_delimeter in line:
            first = number
        elif first and markers.end_test_delimeter in line:
            found.append(Region(first, number, tuple(_checks(lines, first + 1, number - 1))))
            first = 0
    if first:
        found.append(Region(first, len(lines), tuple(_checks(lines, first + 1, len(lines)))))
    return found


def _checks(lines: list[str], first: int, last: int) -> Iterator[Check]:
    """The checks between two lines, both included. What stands before the first name is a check without one."""
    starts = [number for number in range(first, last + 1) if _CHECK.match(lines[number - 1])]
    if any(_is_code(line) for line in lines[first - 1 : (starts[0] if starts else last + 1) - 1]):
        starts.insert(0, first)
    for start, end in zip(starts, [*(start - 1 for start in starts[1:]), last], strict=False):
        named = _CHECK.match(lines[start - 1])
        hint = _HINT.match(lines[start]) if named and start < end else None
        yield Check(named[1] if named else "", hint[1] if hint else "", start, end)


def _is_code(line: str) -> bool:
    return bool(line.strip()) and not line.strip().startswith("#")
