"""Gate 2: markers balanced, hidden checks named, nothing of a solution outside its markers or again in the release."""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import pairwise

from gradekit.authoring.gates.subject import Fault, Gate, Subject
from gradekit.authoring.release import solution_lines
from gradekit.course import Cell, Role
from gradekit.hidden_tests import regions
from gradekit.integrity.ipython_code import Unreadable, parse

MARKED = ("SOLUTION", "HIDDEN TESTS", "MARK SCHEME")
#: A solution line shorter than this says nothing: ``return x``, ``i += 1``.
TELLING = 24


def check(subject: Subject) -> Iterator[Fault]:
    unbalanced = False
    for cell in subject.lab.cells:
        for fault in balanced(subject, cell):
            unbalanced = True
            yield fault
    if unbalanced:
        return
    for cell in subject.exercises:
        if subject.ours and not solution_lines(cell):
            yield Fault("has no BEGIN SOLUTION and END SOLUTION: students would see nothing of it", cell.grade_id)
    if subject.ours:
        yield from named(subject)
    yield from readable(subject)
    yield from repeated(subject)


def balanced(subject: Subject, cell: Cell) -> Iterator[Fault]:
    """Each marker opens and closes in turn, in a cell where nbgrader looks for it."""
    where = subject.name_of(cell.index)
    opened: dict[str, int] = {}  # a mark scheme may stand within a solution
    for number, line in enumerate(cell.source.splitlines(), 1):
        for word in MARKED:
            if f"BEGIN {word}" in line:
                if word in opened:
                    yield Fault(f"BEGIN {word} again: close that of line {opened[word]} first", where, number)
                opened[word] = number
                if word == "HIDDEN TESTS" and cell.role is not Role.TEST:
                    yield Fault("hidden tests stand in a graded cell only: here students see them", where, number)
                if word == "SOLUTION" and cell.role not in (Role.EXERCISE, Role.MANUAL):
                    yield Fault("a solution stands in a solution cell only: mark the cell as one", where, number)
            if f"END {word}" in line and opened.pop(word, None) is None:
                yield Fault(f"END {word} without its BEGIN; add it or take this away", where, number)
    for word, number in opened.items():
        yield Fault(f"BEGIN {word} is never closed; add END {word}", where, number)


def readable(subject: Subject) -> Iterator[Fault]:
    """What is taken out may leave a block without a body."""
    for index, cell in enumerate(subject.student.cells):
        if cell.cell_type == "code":
            try:
                list(parse(cell.source))
            except Unreadable:
                message = "is no Python any more as students get it; keep a line of each block outside the markers"
                yield Fault(message, subject.name_of(index))


def named(subject: Subject) -> Iterator[Fault]:
    """Each hidden check has a name and a hint: they are all that students' feedback may say of it."""
    for cell in subject.lab.cells:
        where, names = subject.name_of(cell.index), set()
        for region in regions(cell.source, subject.course.config):
            if not region.checks:
                yield Fault("these hidden tests check nothing; take them out", where, region.first)
            for check in region.checks:
                if not check.name:
                    message = "hidden tests without a name: write '# check: <what>' and '# hint: <where to look>' above"
                    yield Fault(message, where, check.first)
                elif check.name in names:
                    yield Fault(f"a second hidden check is called '{check.name}'; rename one", where, check.first)
                elif not check.hint:
                    message = f"the hidden check '{check.name}' has no '# hint: <where to look>' in the line behind it"
                    yield Fault(message, where, check.first)
                names.add(check.name)


def repeated(subject: Subject) -> Iterator[Fault]:
    """Two telling lines of a solution in a row, or a solution of a single one, may not stand in the release."""
    released = [(index, _squeezed(line)) for index, cell in enumerate(subject.student.cells) for line in _lines(cell)]
    places: dict[str, list[int]] = {}
    for place, (_, line) in enumerate(released):
        places.setdefault(line, []).append(place)
    for cell in subject.exercises:
        telling = [(number, _squeezed(line)) for number, line in solution_lines(cell)]
        telling = [(number, line) for number, line in telling if line and not line.startswith("#")]
        long = [line for _, line in telling if len(line) >= TELLING]
        alone = len(telling) == 1
        for (number, line), (_, after) in pairwise([*telling, (0, "")]):
            for place in places.get(line, []):
                follows = place + 1 < len(released) and released[place + 1][1] == after
                if line in long and (alone or (follows and after in long)):
                    there = subject.name_of(released[place][0])
                    yield Fault(f"its solution stands in the release too: in {there}; reword", cell.grade_id, number)


def _lines(cell: dict) -> Iterator[str]:
    yield from (line for line in cell["source"].splitlines() if _squeezed(line))


def _squeezed(line: str) -> str:
    """A line without spaces and markdown's decoration, so that layout hides nothing."""
    return re.sub(r"\s+", "", line).strip("`|>*")


GATE = Gate(2, "markers", check, prose=True)
