"""Stock ``nbgrader autograde`` on a copy of a course, and all that a gradebook says, for comparing."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nbformat
from gradekit.course import Course
from nbgrader.api import Gradebook
from nbgrader.apps.api import NbGraderAPI

#: Called with the name and the released form of a notebook, which it edits.
Typist = Callable[[str, nbformat.NotebookNode], None]


def type_into(course: Course, assignment: str, student: str, answer: Typist) -> None:
    """Collect a submission of a student who types ``answer`` into each notebook."""
    folder = course.path("submitted", assignment, student)
    shutil.copytree(course.path("release", assignment), folder)
    (folder / "timestamp.txt").write_text("2026-01-02 10:00:00 UTC")
    for path in folder.glob("*.ipynb"):
        notebook = nbformat.read(path, as_version=4)
        answer(path.stem, notebook)
        nbformat.write(notebook, path)


def autograded_by_stock(course: Course, assignment: str) -> Course:
    """A copy of the course, graded by stock nbgrader with its stock kernel. Its failures with students are its own."""
    root = course.root.with_name("stock")
    shutil.copytree(course.root, root)
    copy = Course.open(root)
    assert not copy.db_url.startswith(f"sqlite:///{course.root}/")
    command = [sys.executable, "-m", "nbgrader", "autograde", assignment, "--log-level=ERROR"]
    subprocess.run(command, cwd=root, capture_output=True, check=False)
    return copy


def gradebook_of(course: Course, assignment: str) -> dict[str, Any]:
    """Student -> what the formgrader shows of the submission, and each row of marks and comments."""
    api = NbGraderAPI(course.directory, config=course.config)
    found = {}
    with Gradebook(course.db_url, course.course_id) as gradebook:
        for row in gradebook.assignment_submissions(assignment):
            shown = _without_ids(api.get_submission(assignment, row.student.id))
            notebooks = {}
            for notebook in row.notebooks:
                rows = [*notebook.grades, *notebook.comments]
                entry = _without_ids(notebook.to_dict()) | {"late": notebook.late_submission_penalty}
                for item in rows:
                    entry[type(item).__name__, item.name] = _without_ids(item.to_dict())
                notebooks[notebook.name] = entry
            found[row.student.id] = {"shown": shown, "late": row.total_seconds_late, "notebooks": notebooks}
    return found


def _without_ids(row: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in row.items() if key != "id"}


def differences(ours: Any, stock: Any, path: tuple[Any, ...] = ()) -> dict[tuple[Any, ...], tuple[Any, Any]]:
    """Path -> (ours, stock), wherever two nested dictionaries differ."""
    if isinstance(ours, dict) and isinstance(stock, dict):
        found = {}
        for key in ours.keys() | stock.keys():
            found |= differences(ours.get(key), stock.get(key), (*path, key))
        return found
    return {} if ours == stock else {path: (ours, stock)}


def quickstart(folder: Path) -> Course:
    """nbgrader's own example course, generated."""
    command = [sys.executable, "-m", "nbgrader", "quickstart", "course"]
    subprocess.run(command, cwd=folder, capture_output=True, check=True)
    course = Course.open(folder / "course")
    done = NbGraderAPI(course.directory, config=course.config).generate_assignment("ps1")
    assert done["success"], done["log"]
    return course
