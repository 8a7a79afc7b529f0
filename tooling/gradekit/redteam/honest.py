"""Honest submissions, none of which may be held: the small course's answer bank, right and wrong, in noisy styles.

A style is a file with a sentence at its head and sections: ``first`` and ``last`` are cells of the student's own around
the rest, ``head`` stands at the beginning of each exercise, and ``each`` at the end of those that are functions, whose
name is ``@NAME@``. ``# lab: deep`` keeps a style to the lab that has torch and kernels.
"""

from __future__ import annotations

import re
import shutil
import tempfile
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
from gradekit.redteam.ground import configured, copied

#: Each answer is seen in every so many styles, other ones from answer to answer; fewer where a notebook takes longer.
_STEPS = {"deep": 4, "plain": 2}


@dataclass(frozen=True)
class Style:
    """How somebody writes notebooks; a style without sections is the plain one."""

    name: str
    lab: str
    sections: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Honest:
    """One honest answer to a lab; ``answer`` None is the reference."""

    student: str
    lab: Lab
    answer: Answer | None
    style: Style

    @property
    def title(self) -> str:
        return _title(self.lab, self.answer, self.style)

    @property
    def expected(self) -> dict[str, float]:
        """The mark of each test: what the answer bank says, whatever the style."""
        if self.answer is None:
            return {cell.grade_id: cell.points for cell in answers.tests(self.lab)}
        return self.answer.expected(self.lab)


@dataclass(frozen=True)
class Report:
    """What became of the honest submissions: which -> what was held, or came out otherwise, and why."""

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


def small_class(course: Course, folder: Path) -> list[Honest]:
    """The answers to each small lab crossed with the styles: each answer plain, and in a part of the others."""
    found = []
    for lab in course.labs():
        fitting = [style for style in styles(folder) if style.lab in ("", lab.name)]
        for number, answer in enumerate([None, *answers.bank(course, lab)]):
            for place, style in enumerate(fitting):
                if not style.sections or (number + place) % _STEPS[lab.name] == 0:
                    found.append(Honest(_title(lab, answer, style), lab, answer, style))
    return found


def lab_class(course: Course, folder: Path, every: int) -> list[Honest]:
    """Every so many answers to each of a course's labs, and one that stops half way, each in the next style.

    A student answers all labs.
    """
    noisy = [style for style in styles(folder) if style.sections]
    found: list[Honest] = []
    for lab in course.labs():
        bank = [None, *answers.bank(course, lab)]
        chosen = bank[::every]
        chosen += [answer for answer in bank if answer and answer.is_unfinished and answer not in chosen][:1]
        for number, answer in enumerate(chosen):
            found.append(Honest(f"student-{number}", lab, answer, noisy[(number * 7 + len(found)) % len(noisy)]))
    return found


def _title(lab: Lab, answer: Answer | None, style: Style) -> str:
    return f"{lab.name.partition('-')[0]}-{answer.name if answer else 'reference'}-{style.name}"


def grade_small(corpus: Path, *, jobs: int) -> Report:
    """Grade the small class, more than two hundred, by the way that every submission takes."""
    with small_course(corpus / "course") as (template, root):
        place = Path(tempfile.mkdtemp(dir=root))
        shutil.copytree(template.root, place, dirs_exist_ok=True)
        course = configured(place)
        return _grade(course, small_class(course, corpus / "honest"), jobs)


def grade_labs(course: Course, corpus: Path, *, jobs: int, every: int = 1) -> Report:
    """Grade every so many answers to a course's own labs, in a copy of the course."""
    with tempfile.TemporaryDirectory(prefix="gradekit-honest-") as folder:
        copy = copied(course, Path(folder))
        return _grade(copy, lab_class(copy, corpus / "honest", every), jobs)


def _grade(course: Course, submissions: list[Honest], jobs: int) -> Report:
    for submission in submissions:
        hand_in(course, submission)
    assignments = sorted({submission.lab.assignment for submission in submissions})
    with LocalGrader(jobs) as workers:
        done = [grade(course, assignment, workers) for assignment in assignments]
    held = {s.title: reasons for s in submissions if (reasons := _held(done, s))}
    otherwise = {s.title: wrong for s in submissions if (wrong := _otherwise(course, s))}
    return Report(submissions, held, otherwise, sum(part.seconds for part in done))


def hand_in(course: Course, submission: Honest) -> None:
    """Put a submission where nbgrader collects."""
    lab = submission.lab
    folder = course.path("submitted", lab.assignment, submission.student)
    released = course.path("release", lab.assignment)
    path = folder / f"{lab.name}.ipynb"
    shutil.copytree(released, folder, dirs_exist_ok=True, ignore=shutil.ignore_patterns("*.ipynb"))
    notebook = answers.apply(read_notebook(released / path.name), lab, submission.answer)
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


def _held(done: list[Graded], submission: Honest) -> list[str]:
    """The tests that are held, and why."""
    return [
        f"{verdict.grade_id}: {verdict.reason}"
        for part in done
        for graded, outcomes in part.graded
        for outcome in outcomes
        for verdict in outcome.verdicts
        if (graded.student, outcome.name) == (submission.student, submission.lab.name) and verdict.status is Status.HELD
    ]


def _otherwise(course: Course, submission: Honest) -> list[str]:
    """The marks that are not those of the answer."""
    name = submission.lab.name
    with Gradebook(course.db_url, course.course_id) as gradebook:
        grades = gradebook.find_submission_notebook(name, submission.lab.assignment, submission.student).grades
        got = {grade.name: grade.auto_score for grade in grades}
    wanted = submission.expected
    return [f"{test}: {got.get(test)}, not {mark:g}" for test, mark in wanted.items() if got.get(test) != mark]
