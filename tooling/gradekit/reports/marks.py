"""All marks of a gradebook, question by question, in a few queries: nbgrader's objects would ask for each by itself."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from datetime import datetime

from nbgrader.api import Assignment, BaseCell, Grade, Gradebook, Notebook, Student, SubmittedAssignment

from gradekit.course import CourseError
from gradekit.gradebook import over_marks


@dataclass(frozen=True)
class Question:
    """A cell that is worth points: its notebook, its grade id, its points, and whether a person gives them."""

    notebook: str
    name: str
    points: float
    manual: bool


@dataclass(frozen=True)
class Sheet:
    """An assignment and its questions, by notebook and name."""

    name: str
    due: datetime | None
    questions: tuple[Question, ...]

    @property
    def points(self) -> float:
        return sum(question.points for question in self.questions)


@dataclass(frozen=True)
class Person:
    """A student; names and address are empty where the gradebook has none."""

    id: str
    first_name: str
    last_name: str
    email: str


@dataclass
class Work:
    """What a student has handed in for an assignment.

    Attributes:
        scores: (notebook, question) -> points; a question that has no row yet is not in it.
        waiting: the questions that a person has still to look at.
        penalty: points that lateness costs, see ``total``.
    """

    handed_in: datetime | None
    penalty: float
    scores: dict[tuple[str, str], float] = field(default_factory=dict)
    waiting: set[tuple[str, str]] = field(default_factory=set)

    @property
    def raw(self) -> float:
        return sum(self.scores.values())

    @property
    def total(self) -> float:
        """The points after the penalty, at least 0, as nbgrader counts them."""
        return max(0.0, self.raw - self.penalty)


@dataclass(frozen=True)
class Marks:
    """Assignments and students in the order of their names; ``works`` by (student, assignment)."""

    sheets: tuple[Sheet, ...]
    people: tuple[Person, ...]
    works: Mapping[tuple[str, str], Work]


def read(gradebook: Gradebook, assignments: Collection[str] = (), students: Collection[str] = ()) -> Marks:
    """The marks of these assignments and students; of all when none is named.

    Raises:
        CourseError: the gradebook has no such assignment or student.
    """
    there = {assignment.name: assignment for assignment in gradebook.assignments}
    known = {student.id: student for student in gradebook.students}
    for kind, wanted, have in (("assignment", assignments, there), ("student", students, known)):
        if strangers := sorted(set(wanted) - set(have)):
            raise CourseError(f"the gradebook has no {kind} '{strangers[0]}'. It has: {', '.join(have) or 'none'}.")
    sheets = tuple(_sheet(there[name]) for name in sorted(assignments or there, key=_natural))
    people = tuple(_person(known[name]) for name in sorted(students or known, key=_natural))
    chosen, named = {sheet.name for sheet in sheets}, {person.id for person in people}
    submissions = (
        gradebook.db.query(
            Student.id, Assignment.name, SubmittedAssignment.timestamp, SubmittedAssignment.late_submission_penalty
        )
        .select_from(SubmittedAssignment)
        .join(Student, SubmittedAssignment.student_id == Student.id)
        .join(Assignment, SubmittedAssignment.assignment_id == Assignment.id)
    )
    works = {
        (student, assignment): Work(handed_in, penalty or 0.0)
        for student, assignment, handed_in, penalty in submissions
        if student in named and assignment in chosen
    }
    columns = SubmittedAssignment.student_id, Assignment.name, Notebook.name, BaseCell.name
    marks = over_marks(*columns, Grade.score, Grade.needs_manual_grade).join(BaseCell, BaseCell.id == Grade.cell_id)
    for student, assignment, notebook, question, score, waits in gradebook.db.execute(marks):
        if work := works.get((student, assignment)):
            work.scores[notebook, question] = score
            if waits:
                work.waiting.add((notebook, question))
    return Marks(sheets, people, works)


def _sheet(assignment: Assignment) -> Sheet:
    questions = [
        Question(notebook.name, cell.name, cell.max_score, cell.cell_type != "code")
        for notebook in assignment.notebooks
        for cell in (*notebook.grade_cells, *notebook.task_cells)
    ]
    ordered = sorted(questions, key=lambda question: (_natural(question.notebook), _natural(question.name)))
    return Sheet(assignment.name, assignment.duedate, tuple(ordered))


def _person(student: Student) -> Person:
    return Person(student.id, student.first_name or "", student.last_name or "", student.email or "")


def _natural(name: str) -> list[tuple[int, str]]:
    """Sorts "1.10" behind "1.9"."""
    return [(int(digits or -1), text) for digits, text in re.findall(r"(\d*)(\D*)", name)]
