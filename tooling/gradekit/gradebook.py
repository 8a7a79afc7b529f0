"""What nbgrader's gradebook class does not say or do: whether there is one, and quick ways through large classes."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

from nbgrader.api import Assignment, Grade, Gradebook, Notebook, SubmittedAssignment, SubmittedNotebook
from sqlalchemy import Select, select, text
from sqlalchemy.engine import make_url
from sqlalchemy.exc import DBAPIError

from gradekit.course import Course

log = logging.getLogger("gradekit")

#: The foreign keys that rows are looked up by, and that nbgrader has no index on: name -> table and column.
INDEXES = {
    "gradekit_grade_notebook": "grade (notebook_id)",
    "gradekit_comment_notebook": "comment (notebook_id)",
    "gradekit_submitted_notebook_assignment": "submitted_notebook (assignment_id)",
    "gradekit_submitted_assignment_student": "submitted_assignment (student_id)",
}


def exists(course: Course) -> bool:
    """False for a file that is not there yet; a database server's is taken to be there."""
    url = make_url(course.db_url)
    return url.get_backend_name() != "sqlite" or not url.database or Path(url.database).exists()


def over_marks(*columns: Any) -> Select[Any]:
    """A statement for ``columns`` of every mark: its row, and those of its notebook, submission and assignment."""
    return (
        select(*columns)
        .select_from(Grade)
        .join(SubmittedNotebook, SubmittedNotebook.id == Grade.notebook_id)
        .join(Notebook, Notebook.id == SubmittedNotebook.notebook_id)
        .join(SubmittedAssignment, SubmittedAssignment.id == SubmittedNotebook.assignment_id)
        .join(Assignment, Assignment.id == SubmittedAssignment.assignment_id)
    )


def index(gradebook: Gradebook) -> None:
    """Add the indexes that are missing, and let the database count what is in its tables.

    Done once by a process for each gradebook. A gradebook that is being written, or may not be, stays as it is.
    """
    url = gradebook.engine.url.render_as_string()
    if url in _indexed:
        return
    try:
        with gradebook.engine.begin() as connection:
            for name, columns in INDEXES.items():
                connection.execute(text(f"CREATE INDEX IF NOT EXISTS {name} ON {columns}"))
            connection.execute(text("ANALYZE"))
    except DBAPIError as error:
        log.info("the gradebook gets no indexes now: %s", error.orig)
    else:
        _indexed.add(url)


_indexed: set[str] = set()
