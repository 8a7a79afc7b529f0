"""The answer bank: for each lab, correct answers that earn everything and wrong ones that lose what they say.

A bank is a folder of Python files, ``correct_*.py`` and ``wrong_*.py``. Each file is one student's answer, cell by
cell, keyed by grade id::

    # loses: test-lora-merge, test-lora-train keeps 1.5
    # The scale alpha / r is left out of the merged weight, so merged and unmerged outputs differ.

    # %% lora-merge
    def merge(self) -> None:
        self.weight += self.B @ self.A

    # %% lora-train
    # untouched

The first line of a ``wrong_*`` names the graded cells that lose points (all of them, unless it ``keeps`` some); the
first line of a ``correct_*`` says what is different. A cell that is not named holds the reference solution, and one
whose only line is ``# untouched`` stays as it was released.
"""

from __future__ import annotations

import ast
import copy
import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from nbformat import NotebookNode
from nbgrader.utils import is_solution

from gradekit.course import Cell, Course, CourseError, Lab, Role, role_of

UNTOUCHED = "# untouched"
_SECTION = re.compile(r"^# %%[ \t]*(?P<id>\S*)[ \t]*$", re.MULTILINE)
_LOSS = re.compile(r"(?P<id>\S+)(?:\s+keeps\s+(?P<kept>\d+(?:\.\d+)?))?")
_BEGIN_END = re.compile(r"\b(BEGIN|END) SOLUTION\b")
_MARK_SCHEME = re.compile(r"^[^\n]*BEGIN MARK SCHEME.*?END MARK SCHEME[^\n]*\n?", re.DOTALL | re.MULTILINE)


class Kind(StrEnum):
    CORRECT = "correct"
    WRONG = "wrong"


@dataclass(frozen=True)
class Answer:
    """One answer of a bank.

    Attributes:
        summary: what is different (correct), or why it is wrong.
        cells: the source of each solution cell that is not the reference, by grade id; None is the released stub.
        kept: the graded cells that lose points, and the points that they keep.
    """

    path: Path
    kind: Kind
    summary: str
    cells: Mapping[str, str | None]
    kept: Mapping[str, float]

    @property
    def name(self) -> str:
        return self.path.stem

    @property
    def is_unfinished(self) -> bool:
        """Whether exercises are left as they were released."""
        return None in self.cells.values()

    def expected(self, lab: Lab) -> dict[str, float]:
        """The points that each automatically graded cell of the lab must give this answer."""
        return {cell.grade_id: self.kept.get(cell.grade_id, cell.points) for cell in tests(lab)}


def tests(lab: Lab) -> list[Cell]:
    """The automatically graded cells of a lab."""
    return [cell for cell in lab.cells if cell.role is Role.TEST and cell.kind == "code"]


def folder(course: Course, lab: Lab) -> Path:
    """Where the bank of a lab lives: ``tooling/answers/<lab>``, or ``answers/<lab>`` in a course without tooling."""
    places = [course.root / "tooling" / "answers" / lab.name, course.root / "answers" / lab.name]
    return next((place for place in places if place.is_dir()), places[0 if places[0].parent.is_dir() else 1])


def bank(course: Course, lab: Lab) -> list[Answer]:
    """The answers to a lab, the correct ones first, by name. None when the lab has no bank.

    Raises:
        CourseError: a file of the bank is not in the format, or names a cell that the lab has not.
    """
    place = folder(course, lab)
    strangers = [
        path.name for path in place.glob("*.py") if not path.name.startswith(tuple(f"{kind}_" for kind in Kind))
    ]
    if strangers:
        raise CourseError(
            f"{place / strangers[0]}: an answer is called correct_<what>.py or wrong_<what>.py; rename this file."
        )
    return [load(path, lab) for kind in Kind for path in sorted(place.glob(f"{kind}_*.py"))]


def load(path: Path, lab: Lab) -> Answer:
    """Read one answer.

    Raises:
        CourseError: it is not in the format, or names a cell that the lab has not.
    """
    text = path.read_text(encoding="utf-8")
    kind = Kind.CORRECT if path.name.startswith(f"{Kind.CORRECT}_") else Kind.WRONG
    head, *bodies = _SECTION.split(text)
    comments = [line.removeprefix("#").strip() for line in head.splitlines() if line.strip()]
    stray = next((n for n, line in enumerate(head.splitlines(), 1) if line.strip() and line[0] != "#"), None)
    if stray:
        raise CourseError(
            f"{path}:{stray}: code before the first section; write '# %% <grade-id>' above the cell's source."
        )
    if not comments:
        wanted = "'# loses: <test ids>'" if kind is Kind.WRONG else "a comment that says what is different"
        raise CourseError(f"{path}:1: the first line must be {wanted}.")
    kept: dict[str, float] = {}
    if kind is Kind.WRONG:
        kept = _losses(path, comments.pop(0), lab)
    cells = _sections(path, bodies, lab)
    if not cells:
        raise CourseError(f"{path}: answers no cell; add a section '# %% <grade-id>' with the cell's source.")
    return Answer(path, kind, " ".join(comments), cells, kept)


def _losses(path: Path, line: str, lab: Lab) -> dict[str, float]:
    label, _, listed = line.partition(":")
    if label != "loses" or not listed.strip():
        raise CourseError(f"{path}:1: the first line must be '# loses: <test ids>', not '# {line}'.")
    points = {cell.grade_id: cell.points for cell in tests(lab)}
    kept = {}
    for item in listed.split(","):
        match = _LOSS.fullmatch(item.strip())
        if not match:
            raise CourseError(f"{path}:1: cannot read '{item.strip()}'; write '<test id>' or '<test id> keeps 1.5'.")
        grade_id, rest = match["id"], float(match["kept"] or 0)
        if grade_id not in points:
            raise CourseError(f"{path}:1: {lab.name} has no test cell '{grade_id}'. {_known('It has', points)}")
        if rest >= points[grade_id]:
            raise CourseError(f"{path}:1: '{grade_id}' has {points[grade_id]:g} points: keeping {rest:g} loses none.")
        kept[grade_id] = rest
    return kept


def _sections(path: Path, bodies: list[str], lab: Lab) -> dict[str, str | None]:
    solutions = {cell.metadata.nbgrader.grade_id: cell for cell in lab.notebook.cells if is_solution(cell)}
    cells: dict[str, str | None] = {}
    for grade_id, body in zip(bodies[::2], bodies[1::2], strict=True):
        if grade_id not in solutions:
            what = f"has no solution cell '{grade_id}'" if grade_id else "needs a grade id after '# %%'"
            raise CourseError(f"{path}: {lab.name} {what}. {_known('It has', solutions)}")
        if grade_id in cells:
            raise CourseError(f"{path}: two sections are called '{grade_id}'; keep one.")
        source = body.strip("\n").rstrip()
        cells[grade_id] = None if source.strip() == UNTOUCHED else source
        if not source.strip():
            raise CourseError(f"{path}: section '{grade_id}' is empty; write its source, or '{UNTOUCHED}'.")
        if source.strip() != UNTOUCHED and solutions[grade_id].cell_type == "code":
            _parse(path, grade_id, source)
    return cells


def _parse(path: Path, grade_id: str, source: str) -> None:
    if re.search(r"^\s*[%!]", source, re.MULTILINE):
        return  # a magic: only IPython can read it
    try:
        ast.parse(source)
    except SyntaxError as error:
        raise CourseError(f"{path}: section '{grade_id}', line {error.lineno}: {error.msg}.") from None


def _known(intro: str, names: Mapping[str, object]) -> str:
    return f"{intro}: {', '.join(names) or 'none'}."


def reference(cell: NotebookNode) -> str:
    """The source of an instructor's solution cell as a student would have typed it: without the markers."""
    source = _MARK_SCHEME.sub("", cell.source)
    return "\n".join(line for line in source.split("\n") if not _BEGIN_END.search(line))


def sources(lab: Lab, answer: Answer | None) -> dict[str, str | None]:
    """What an answer puts into each solution cell of the lab, by grade id; None leaves the released stub."""
    given = {} if answer is None else answer.cells
    return {
        cell.metadata.nbgrader.grade_id: given.get(cell.metadata.nbgrader.grade_id, reference(cell))
        for cell in lab.notebook.cells
        if is_solution(cell)
    }


def apply(notebook: NotebookNode, lab: Lab, answer: Answer | None) -> NotebookNode:
    """The notebook with an answer typed into it; everything else, nbgrader's metadata included, stays.

    Args:
        notebook: the lab as released (or with hidden tests: see `released`).
        lab: where the reference solutions come from.
        answer: None is the reference in every cell.

    Raises:
        CourseError: the answer leaves a cell untouched, and the notebook holds the instructor's solution there.
    """
    notebook = copy.deepcopy(notebook)
    typed = sources(lab, answer)
    for cell in notebook.cells:
        if not is_solution(cell):
            continue
        grade_id = cell.metadata.nbgrader.grade_id
        source = typed.get(grade_id)
        if source is not None:
            cell.source = source
        elif role_of(cell) is Role.EXERCISE and _BEGIN_END.search(cell.source):
            raise CourseError(f"{lab.name}: '{grade_id}' is left untouched, which needs the released notebook.")
    return notebook
