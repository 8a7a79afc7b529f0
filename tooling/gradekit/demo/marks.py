"""The class's marks as the gradebook has them, beside those that the answer bank says."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from nbgrader.api import Gradebook
from rich.table import Table

from gradekit.authoring import answers
from gradekit.course import Course
from gradekit.demo.plan import Plan


@dataclass(frozen=True)
class Mark:
    """One line of the closing table.

    Attributes:
        automatic: points from the autograder, ``expected`` what the answer bank says.
        reading: how many cells wait for a person.
        flags: what a TA should know.
    """

    student: str
    lab: str
    style: str
    automatic: float
    expected: float
    possible: float
    reading: int
    flags: tuple[str, ...]

    @property
    def agrees(self) -> bool:
        return abs(self.automatic - self.expected) < 1e-9


def marks(course: Course, plans: Iterable[Plan]) -> list[Mark]:
    """The gradebook's marks beside those that the answer bank says."""
    found = []
    with Gradebook(course.db_url, course.course_id) as gradebook:
        for plan in plans:
            submission = gradebook.find_submission(plan.assignment, plan.student)
            for lab in course.labs(plan.assignment):
                notebook = gradebook.find_submission_notebook(lab.name, plan.assignment, plan.student)
                tests = {cell.grade_id for cell in answers.tests(lab)}
                here = {g.name: g for g in notebook.grades if g.name in tests and g.auto_score is not None}
                elsewhere = sorted(tests - here.keys())
                flags = ["late"] if submission.total_seconds_late > 0 else []
                flags += ["twice"] if plan.twice else []
                flags += [f"{len(elsewhere)} not graded here"] if elsewhere else []
                expected = plan.expected(lab)
                found.append(
                    Mark(
                        plan.student,
                        lab.name,
                        plan.style(lab.name),
                        sum(grade.auto_score for grade in here.values()),
                        sum(expected[name] for name in here),
                        sum(cell.points for cell in answers.tests(lab) if cell.grade_id in here),
                        sum(1 for g in notebook.grades if g.needs_manual_grade and g.name not in elsewhere),
                        tuple(flags),
                    )
                )
    return found


def result_table(marks: list[Mark]) -> Table:
    """The closing table: student, lab, automatic points, what a person has to read, flags."""
    table = Table(title="The class, as the gradebook has it")
    for heading in ("student", "lab", "handed in", "points", "of", "to read", "flags"):
        number = heading in ("points", "of", "to read")
        table.add_column(heading, justify="right" if number else "left", overflow="fold")
    for before, mark in zip([None, *marks], marks, strict=False):
        new = before is None or before.student != mark.student
        if new and before is not None:
            table.add_section()
        flags = [*mark.flags, *([] if mark.agrees else [f"the answer bank says {mark.expected:g}"])]
        table.add_row(
            mark.student if new else "",
            short_name(mark.lab),
            mark.style,
            f"{mark.automatic:g}",
            f"{mark.possible:g}",
            str(mark.reading) if mark.reading else "",
            ", ".join(flags),
            style=None if mark.agrees else "bold red",
        )
    return table


def short_name(lab: str) -> str:
    """The number that a lab's name begins with, or the name."""
    number = re.match(r"(opt-[A-Z]|\d+)(\.\d+)+(?=-)", lab)
    return number[0] if number else lab
