"""Honest submissions, none of which may be held: the small course's answer bank, right and wrong, in noisy styles.

A style is a file with a sentence at its head and sections: ``first`` and ``last`` are cells of the student's own around
the rest, ``head`` and ``each`` stand at the beginning and the end of the cell of each exercise that is a function, whose
name is ``@NAME@``. ``# lab: deep`` keeps a style to the lab that has torch and kernels.
"""

from __future__ import annotations

import re
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import nbformat
from nbformat import NotebookNode
from nbgrader.api import Gradebook

from gradekit.authoring import answers
from gradekit.authoring.answers import Answer
from gradekit.course import Course, Lab, Role, read_notebook, role_of
from gradekit.grading.judge import Status
from gradekit.grading.local import LocalGrader
from gradekit.grading.run import Graded, grade
from gradekit.redteam.attack import split
from gradekit.redteam.columns import small_course

#: Every third style of each answer, shifted from answer to answer, for the lab that takes longer; and every other one.
_STEPS = {"deep": 3, "plain": 2}


@dataclass(frozen=True)
class Style:
    """How somebody writes notebooks; a style without sections is the plain one."""

    name: str
    lab: str
    sections: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Honest:
    """One honest submission; ``answer`` None is the reference."""

    student: str
    lab: Lab
    answer: Answer | None
    style: Style

    @property
    def expected(self) -> dict[str, float]:
        """The mark of each test: what the answer bank says, whatever the style."""
        if self.answer is None:
            return {cell.grade_id: cell.points for cell in answers.tests(self.lab)}
        return self.answer.expected(self.lab)


@dataclass(frozen=True)
class Report:
    """What became of the honest submissions: student -> what was held, or came out otherwise, and why."""

    submissions: list[Honest]
    held: dict[str, list[str]]
    otherwise: dict[str, list[str]]
    seconds: float


def styles(folder: Path) -> list[Style]:
    """The styles in a folder, by name."""
    found = []
    for path in sorted(folder.glob("*.py")):
        head, sections = split(path.read_text(encoding="utf-8"))
        lab = re.search(r"^# lab: (\S+)$", head, re.MULTILINE)
        found.append(Style(path.stem, lab[1] if lab else "", sections))
    return found


def everybody(course: Course, folder: Path) -> Iterator[Honest]:
    """The answers of each lab's bank crossed with the styles: each answer plain, and in a part of the others."""
    for lab in course.labs():
        fitting = [style for style in styles(folder) if style.lab in ("", lab.name)]
        for number, answer in enumerate([None, *answers.bank(course, lab)]):
            for place, style in enumerate(fitting):
                if not style.sections or (number + place) % _STEPS[lab.name] == 0:
                    name = answer.name if answer else "reference"
                    yield Honest(f"{name}-{style.name}", lab, answer, style)


def grade_honest(corpus: Path, *, jobs: int) -> Report:
    """Grade all of them by the way that every submission takes."""
    with small_course(corpus / "course") as (template, root):
        place = Path(tempfile.mkdtemp(dir=root))
        shutil.copytree(template.root, place, dirs_exist_ok=True)
        shutil.copytree(corpus / "course" / "answers", place / "answers")
        course = Course.open(place)
        submissions = list(everybody(course, corpus / "honest"))
        for submission in submissions:
            _hand_in(course, submission)
        with LocalGrader(jobs) as workers:
            done = [grade(course, assignment, workers) for assignment in course.assignments]
        held, otherwise = _held(done), {}
        for submission in submissions:
            if wrong := _otherwise(course, submission):
                otherwise[submission.student] = wrong
        return Report(submissions, held, otherwise, sum(part.seconds for part in done))


def _hand_in(course: Course, submission: Honest) -> None:
    lab = submission.lab
    folder = course.path("submitted", lab.assignment, submission.student)
    shutil.copytree(course.path("release", lab.assignment), folder)
    path = folder / f"{lab.name}.ipynb"
    notebook = answers.apply(read_notebook(path), lab, submission.answer)
    nbformat.write(_styled(notebook, submission.style), path)


def _styled(notebook: NotebookNode, style: Style) -> NotebookNode:
    parts = dict(style.sections)
    exercises = [cell for cell in notebook.cells if role_of(cell) is Role.EXERCISE]
    for cell in exercises:
        name = cell.metadata.nbgrader.grade_id
        cell.source = "\n".join(filter(None, [parts.get("head"), cell.source]))
        if "each" in parts and re.search(rf"^def {name}\(", cell.source, re.MULTILINE) and "@cuda" not in cell.source:
            cell.source += "\n\n\n" + parts["each"].replace("@NAME@", name)
    if "first" in parts:
        cell = nbformat.v4.new_code_cell(parts["first"].rstrip(), id="first")
        notebook.cells.insert(notebook.cells.index(exercises[0]), cell)
    if "last" in parts:
        notebook.cells.append(nbformat.v4.new_code_cell(parts["last"].rstrip(), id="last"))
    return notebook


def _held(done: list[Graded]) -> dict[str, list[str]]:
    return {
        submission.student: reasons
        for part in done
        for submission, outcomes in part.graded
        if (reasons := [f"{v.grade_id}: {v.reason}" for o in outcomes for v in o.verdicts if v.status is Status.HELD])
    }


def _otherwise(course: Course, submission: Honest) -> list[str]:
    """The marks that are not those of the answer."""
    name = submission.lab.name
    with Gradebook(course.db_url, course.course_id) as gradebook:
        grades = gradebook.find_submission_notebook(name, submission.lab.assignment, submission.student).grades
        got = {grade.name: grade.auto_score for grade in grades}
    return [f"{test}: {got.get(test)}, not {mark:g}" for test, mark in submission.expected.items() if got.get(test) != mark]
