"""What a TA should read in a student's code, found without running it. None of it holds a point by itself.

The course's own cells are never looked at: only answers that were changed, and cells that the student added.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import suppress
from typing import Protocol

from nbformat import NotebookNode

from gradekit.integrity import copied
from gradekit.integrity.evidence import Evidence
from gradekit.integrity.ipython_code import Code, Unreadable, parse
from gradekit.integrity.names import Names
from gradekit.integrity.suspects import Note, definitions, look

KIND = "static"
#: A longer cell is not looked through: no answer to an exercise is that long.
MAX_CHARACTERS = 100_000


class CourseCell(Protocol):
    """What is known of a cell of the assignment: ``gradekit.grading.job.SourceCell``."""

    @property
    def grade_id(self) -> str: ...
    @property
    def kind(self) -> str: ...
    @property
    def source(self) -> str: ...
    @property
    def released(self) -> str: ...
    @property
    def locked(self) -> bool: ...
    @property
    def points(self) -> float: ...


class Assignment(Protocol):
    """What is known of a notebook of the assignment: ``gradekit.grading.job.Target``.

    ``plain`` holds the sources of the cells that the course gives without nbgrader's metadata.
    """

    @property
    def cells(self) -> Sequence[CourseCell]: ...
    @property
    def plain(self) -> Sequence[str]: ...


def scan(notebook: NotebookNode, target: Assignment) -> list[Evidence]:
    """The findings in a sanitised submission, by cell and line.

    Args:
        notebook: the student's notebook. A cell is called by its grade id, or ``cell <index>``.
        target: the notebook as the course has it.
    """
    known = {cell.grade_id: cell for cell in target.cells}
    locked = [cell for cell in target.cells if cell.locked and cell.kind == "code"]
    given = {name for cell in locked for code in _parsed(cell.source) for name in definitions(code.tree)}
    names = Names()
    found: list[Evidence] = []
    texts = _copies(target)
    for index, cell in enumerate(notebook.cells):
        if cell.cell_type != "code":
            continue
        grade_id = cell.metadata.get("nbgrader", {}).get("grade_id", "")
        original = known.get(grade_id)
        course_made = (
            cell.source in target.plain
            if original is None
            else original.locked or cell.source == original.released
        )
        notes = []
        with suppress(RecursionError):  # nested too deeply to be looked at
            for code in _parsed(cell.source):
                names.learn(code.tree)
                if not course_made:
                    notes += look(code, names, given)
        if course_made:
            continue
        if len(cell.source) > MAX_CHARACTERS:
            notes.append(Note(1, f"is {len(cell.source):,} characters long and was not looked through"))
        else:
            notes += _copied(cell.source, texts)
        name = grade_id or f"cell {index}"
        found += [Evidence(KIND, name, what, False) for what in _sentences(notes)]
    return found


def _parsed(source: str) -> Iterator[Code]:
    if len(source) > MAX_CHARACTERS:
        return
    try:
        yield from parse(source)
    except Unreadable:
        return


def _sentences(notes: list[Note]) -> list[str]:
    """One sentence for each thing that a cell does, with the lines in which it does it."""
    lines: dict[str, list[int]] = {}
    for note in sorted(set(notes), key=lambda note: note.line):
        lines.setdefault(note.what, []).append(note.line)
    sentences = []
    for what, at in lines.items():
        where = ", ".join(str(line) for line in at[:5]) + (", ..." if len(at) > 5 else "")
        sentences.append(f"line{'s' if len(at) > 1 else ''} {where}: {what}")
    return sentences


def _copies(target: Assignment) -> list[tuple[copied.Tokens, str]]:
    """The tests' texts, as runs that none of the texts to be typed over or read as an example has."""
    tests = [cell for cell in target.cells if cell.locked and cell.points and cell.kind == "code"]
    others = [cell.released for cell in target.cells if cell not in tests] + list(target.plain)
    shown = [cell.released for cell in tests]
    hidden = copied.Tokens((cell.source for cell in tests), copied.HIDDEN_RUN)
    hidden.runs -= copied.Tokens([*others, *shown], copied.HIDDEN_RUN).runs
    visible = copied.Tokens(shown, copied.VISIBLE_RUN)
    visible.runs -= copied.Tokens(others, copied.VISIBLE_RUN).runs
    return [
        (hidden, "is word for word what the hidden tests say; ask how the student came by it"),
        (visible, "copies the text of a test; see whether the answer computes, or only knows what the test asks"),
    ]


def _copied(source: str, texts: list[tuple[copied.Tokens, str]]) -> list[Note]:
    found = ((tokens.found_in(source), what) for tokens, what in texts)
    return [Note(line, what) for line, what in found if line is not None]
