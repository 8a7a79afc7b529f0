"""Whether a course has a gradebook: to open one in SQLite would make it."""

from __future__ import annotations

from pathlib import Path

from sqlalchemy.engine import make_url

from gradekit.course import Course


def exists(course: Course) -> bool:
    """False for a file that is not there yet; a database server's is taken to be there."""
    url = make_url(course.db_url)
    return url.get_backend_name() != "sqlite" or not url.database or Path(url.database).exists()
