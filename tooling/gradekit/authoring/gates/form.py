"""Gate 1: the pair is in sync, the format valid, sections in order, cell sizes kept."""

from __future__ import annotations

import re
import statistics
from collections.abc import Iterator, Sequence

import nbformat

from gradekit.authoring.gates.subject import Fault, Gate, Subject
from gradekit.authoring.sync import Change, sync
from gradekit.course import Role
from gradekit.hidden_tests import regions

#: The headings of a lab in order. A heading may go on after a colon or a bracket.
SECTIONS = (
    "# Lab",
    "## What you'll achieve",
    "## Before you start",
    "## Why it matters",
    "## At the kitchen table",
    "## Foundations",
    "## Part",
    "## Put it together",
    "## Use it",
    "## On your Spark",
    "## Common mistakes",
    "## Reflect",
    "## Summary",
    "## Challenge",
    "## Further reading",
    "## Clean up",
)
MEDIAN_LINES, CODE_LINES, SOLUTION_LINES, MARKDOWN_LINES = 10, 40, 60, 25
#: Marks what the author of a new lab still has to write.
PLACEHOLDER = "TO WRITE"
_KEBAB = re.compile(r"[a-z0-9]+(-[a-z0-9]+)*")


def check(subject: Subject) -> Iterator[Fault]:
    yield from pair(subject)
    yield from valid(subject)
    yield from titles(subject)
    if subject.ours:
        yield from ids(subject)
        yield from in_order(subject, SECTIONS, "a lab")
        yield from sizes(subject)
        yield from placeholders(subject)


def pair(subject: Subject) -> Iterator[Fault]:
    lab = subject.lab
    if not subject.ours and not lab.text.exists():
        return
    result = sync(lab.path.with_suffix(""), check=True)
    if result.change is not Change.NONE:
        yield Fault(f"the pair is not in sync ({result.change}): {result.detail or 'run `gradekit sync`'}")


def valid(subject: Subject) -> Iterator[Fault]:
    try:
        nbformat.validate(subject.lab.notebook)
    except nbformat.ValidationError as error:
        yield Fault(f"not a valid notebook: {str(error).splitlines()[0]}; mend it in the text half and sync")
    _ = subject.student  # nbgrader's own checks: raises what it refuses


def ids(subject: Subject) -> Iterator[Fault]:
    elsewhere = {
        cell.grade_id: lab.name
        for lab in subject.course.labs()
        if lab.name != subject.lab.name
        for cell in lab.cells
        if cell.grade_id
    }
    for cell in subject.lab.cells:
        if not cell.grade_id:
            continue
        if not _KEBAB.fullmatch(cell.grade_id):
            yield Fault("a grade id is kebab-case, such as 'lora-forward'; rename it", cell.grade_id)
        if cell.grade_id in elsewhere:
            yield Fault(f"{elsewhere[cell.grade_id]} has this grade id too; rename one", cell.grade_id)


def in_order(subject: Subject, sections: Sequence[str], kind: str) -> Iterator[Fault]:
    """Headings of the first two levels are the sections of this kind of notebook, each there, in order."""
    found: list[str] = []
    for cell in subject.lab.cells:
        if cell.kind != "markdown":
            continue
        for number, line in enumerate(cell.source.splitlines(), 1):
            if not re.match(r"##? ", line):
                continue
            where = subject.name_of(cell.index)
            section = next((name for name in sections if re.match(rf"{re.escape(name)}(\b|$)", line)), None)
            if section is None:
                yield Fault(f"'{line}' is no section of {kind}; make it a ### heading", where, number)
            elif found and sections.index(section) < sections.index(found[-1]):
                yield Fault(f"'{line}' must stand before '{found[-1]}'; move it", where, number)
            else:
                found.append(section)
    for section in sections:
        if section not in found:
            yield Fault(f"there is no section '{section}'; add it")


def sizes(subject: Subject) -> Iterator[Fault]:
    lengths = []
    for cell in subject.lab.cells:
        # Names and hints of hidden checks are read in the feedback, not here.
        checks = [check for region in regions(cell.source) for check in region.checks]
        lines = len(cell.source.splitlines()) - sum(bool(check.name) + bool(check.hint) for check in checks)
        if cell.kind == "code":
            lengths.append(lines)
        # A person's mark scheme stands in its question's cell, and no student reads it.
        limit = MARKDOWN_LINES if cell.kind == "markdown" and cell.role is not Role.MANUAL else None
        if cell.kind == "code":
            limit = SOLUTION_LINES if cell.role is Role.EXERCISE else CODE_LINES
        if limit is not None and lines > limit:
            yield Fault(f"has {lines} lines, at most {limit} are read; split it", subject.name_of(cell.index))
    if lengths and statistics.median(lengths) > MEDIAN_LINES:
        median = statistics.median(lengths)
        yield Fault(f"the median code cell has {median:g} lines, more than {MEDIAN_LINES}; split the longest")


def titles(subject: Subject) -> Iterator[Fault]:
    """Text behind ``# %%`` is jupytext's title of the cell, which no reader of the notebook sees."""
    for cell in subject.lab.cells:
        if title := subject.lab.notebook.cells[cell.index].metadata.get("title"):
            yield Fault(f"'{title[:60]}' stands on its '# %%' line; move it below", subject.name_of(cell.index))


def placeholders(subject: Subject) -> Iterator[Fault]:
    """What `gradekit new` left to the author."""
    left = [cell for cell in subject.lab.cells if PLACEHOLDER in cell.source]
    if left:
        line = next(n for n, text in enumerate(left[0].source.splitlines(), 1) if PLACEHOLDER in text)
        message = f"'{PLACEHOLDER}' stands in {len(left)} cells, first here; put your own words in its place"
        yield Fault(message, subject.name_of(left[0].index), line)


GATE = Gate(1, "format", check, prose=True)
