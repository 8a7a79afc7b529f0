"""The formgrader's lists without a wait when hundreds of students hand in.

To list the submissions of one assignment nbgrader sums up those of all, and its tables have no index on columns that
rows are looked up by. Two lines in ``nbgrader_config.py`` give the formgrader the same lists from short queries::

    from gradekit.formgrader import quick
    quick.install()

What was measured is in docs/benchmarks: ``gradekit bench formgrader``.
"""

from __future__ import annotations

from typing import Any

from nbgrader.api import (
    Assignment,
    Grade,
    Gradebook,
    GradeCell,
    Notebook,
    Student,
    SubmittedAssignment,
    SubmittedNotebook,
    TaskCell,
)
from nbgrader.apps.api import NbGraderAPI
from nbgrader.server_extensions.formgrader import base
from sqlalchemy import ColumnElement, Select, case, func, or_, select
from sqlalchemy.orm import selectinload

from gradekit.gradebook import index, over_marks

_SCORES = (
    *("score", "max_score", "code_score", "max_code_score", "written_score", "max_written_score"),
    *("task_score", "max_task_score", "needs_manual_grade"),
)


def install() -> None:
    """Let the formgrader, in this process, use the two classes below in place of their parents."""
    base.Gradebook, base.NbGraderAPI = QuickGradebook, QuickAPI


class QuickAPI(NbGraderAPI):
    """nbgrader's API on a quick gradebook. A student's page would list the whole class anew for each assignment."""

    @property
    def gradebook(self) -> QuickGradebook:
        return QuickGradebook(self.coursedir.db_url, self.course_id)

    def get_student_submissions(self, student_id: str) -> list[dict[str, Any]]:
        """As in nbgrader: a student's submissions by assignment."""
        students = {student["id"]: student for student in self.get_students()}
        names = sorted(self.get_source_assignments())
        return [self.get_submission(name, student_id, students=students) for name in names]


class QuickGradebook(Gradebook):
    """nbgrader's gradebook, in which lists are one query each over the rows that they show."""

    def __init__(self, *args: Any, **kw: Any) -> None:
        super().__init__(*args, **kw)
        index(self)

    def student_dicts(self) -> list[dict[str, Any]]:
        """As in nbgrader: each student's scores, all assignments together."""
        possible = self.db.scalar(select(func.sum(Assignment.max_score))) or 0.0
        scores = (
            select(SubmittedAssignment.student_id.label("id"), func.sum(Grade.score).label("score"))
            .join(SubmittedNotebook, SubmittedNotebook.assignment_id == SubmittedAssignment.id)
            .join(Grade, Grade.notebook_id == SubmittedNotebook.id)
            .group_by(SubmittedAssignment.student_id)
            .subquery()
        )
        columns = (Student.id, Student.first_name, Student.last_name, Student.email, Student.lms_user_id)
        score = func.coalesce(scores.c.score, 0.0).label("score")
        rows = self.db.execute(select(*columns, score).outerjoin(scores, scores.c.id == Student.id))
        return [{**row, "max_score": possible} for row in rows.mappings()]

    def submission_dicts(self, assignment_id: str) -> list[dict[str, Any]]:
        """As in nbgrader: an assignment's submissions with their scores."""
        columns = (
            SubmittedAssignment.id,
            Assignment.name,
            SubmittedAssignment.timestamp,
            Student.first_name,
            Student.last_name,
            Student.id.label("student"),
        )
        query = _graded(columns).where(Assignment.name == assignment_id)
        return [_as_dict(row, "needs_manual_grade") for row in self.db.execute(query).mappings()]

    def notebook_submissions(self, notebook_id: str, assignment_id: str) -> list[SubmittedNotebook]:
        """As in nbgrader, with what the formgrader asks of each of them: its notebook's name and its student."""
        assignment = selectinload(SubmittedNotebook.assignment)
        query = (
            select(SubmittedNotebook)
            .join(Notebook, Notebook.id == SubmittedNotebook.notebook_id)
            .join(Assignment, Assignment.id == Notebook.assignment_id)
            .where(Notebook.name == notebook_id, Assignment.name == assignment_id)
            .options(selectinload(SubmittedNotebook.notebook), assignment.selectinload(SubmittedAssignment.student))
        )
        return list(self.db.scalars(query))

    def notebook_submission_dicts(self, notebook_id: str, assignment_id: str) -> list[dict[str, Any]]:
        """As in nbgrader: a notebook's submissions with their scores."""
        columns = (
            SubmittedNotebook.id,
            Notebook.name,
            Student.id.label("student"),
            Student.first_name,
            Student.last_name,
            SubmittedNotebook.flagged,
        )
        failed = (GradeCell.__table__.c.cell_type == "code") & (
            Grade.auto_score < GradeCell.__table__.c.max_score
        )
        query = _graded(columns, _any(failed).label("failed_tests")).where(
            Assignment.name == assignment_id, Notebook.name == notebook_id
        )
        return [_as_dict(row, "needs_manual_grade", "failed_tests") for row in self.db.execute(query).mappings()]


def _graded(columns: tuple[Any, ...], *sums: ColumnElement[Any]) -> Select[Any]:
    """Rows that have marked cells, by ``columns``, with the sums over these cells."""
    graded, tasks = GradeCell.__table__, TaskCell.__table__
    code, written, task = (
        kind.c.cell_type == name for kind, name in ((graded, "code"), (graded, "markdown"), (tasks, "markdown"))
    )
    possible = func.coalesce(graded.c.max_score, tasks.c.max_score)
    totals: list[ColumnElement[Any]] = [
        func.coalesce(func.sum(case((of, value), else_=0.0)), 0.0)
        for of in (or_(code, written, task), code, written, task)
        for value in (Grade.score, possible)
    ]
    totals.append(_any(Grade.needs_manual_grade))
    return (
        over_marks(*columns, *(total.label(name) for total, name in zip(totals, _SCORES, strict=True)), *sums)
        .join(Student, Student.id == SubmittedAssignment.student_id)
        .outerjoin(graded, graded.c.id == Grade.cell_id)
        .outerjoin(tasks, tasks.c.id == Grade.cell_id)
        .where(or_(code, written, task))
        .group_by(*columns)
    )


def _any(holds: Any) -> ColumnElement[int]:
    return func.max(case((holds, 1), else_=0))


def _as_dict(row: Any, *flags: str) -> dict[str, Any]:
    return {**row, **{flag: bool(row[flag]) for flag in flags}}
