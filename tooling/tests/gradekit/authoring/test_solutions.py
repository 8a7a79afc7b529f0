"""`gradekit solutions`: after the deadline, everything worth reading, and nothing of the hidden tests."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from pathlib import Path

import nbformat
import pytest
from gradekit.authoring.solutions import NOT_SHOWN, publish, solution
from gradekit.course import Course, CourseError
from nbgrader.api import Gradebook

DUE = datetime(2024, 5, 1, 12, tzinfo=UTC)
HIDDEN_ONLY = """\
# loses: test-axpy
# Right for three elements alone.

# %% axpy
def axpy(a, x, y):
    return a * x + y if len(x) == 3 else y
"""


def test_a_solution_notebook(broken) -> None:  # type: ignore[no-untyped-def]
    course: Course = broken(bank={"wrong_long.py": HIDDEN_ONLY})
    (path,) = publish(course, "0.1-vectors", before_deadline=True)
    assert path == course.root / "solution" / "0.1-vectors" / "0.1.1-axpy.ipynb"
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    text = "\n".join(cell.source for cell in notebook.cells)
    everything = path.read_text()

    assert "return a * x + y" in text and "NotImplementedError()" not in text
    assert "64 bytes\n" in [output.get("text") for cell in notebook.cells for output in cell.get("outputs", [])]
    assert not any("nbgrader" in cell.metadata for cell in notebook.cells)
    for secret in ("HIDDEN", "default_rng().normal", "BEGIN SOLUTION", "MARK SCHEME", "loses:"):
        assert secret not in everything, secret

    row = next(line for line in text.splitlines() if line.startswith("| In steps |"))
    figures = [float(number) for number in re.findall(r"[\d.]+(?:e[+-]?\d+)?", row)]
    assert len(figures) == 8
    for middle, low, high, megabytes in (figures[:4], figures[4:]):
        assert 0 < low <= middle <= high and megabytes > 10
    assert "z += y" in text

    sign = next(cell.source for cell in notebook.cells if cell.source.startswith("## Sign"))
    assert "y is taken away" in sign and re.search(r"`test-axpy`: AssertionError", sign) and "a * x - y" in sign
    long = next(cell.source for cell in notebook.cells if cell.source.startswith("## Long"))
    assert f"`test-axpy`: {NOT_SHOWN}" in long
    done = next(cell.source for cell in notebook.cells if cell.source.startswith("## Half done"))
    assert "left as it was released" in done


def test_not_before_the_due_date(course: Course) -> None:
    with pytest.raises(CourseError, match=r"no due date in the gradebook.*--before-deadline"):
        publish(course, "0.1-vectors")
    assert not (course.root / "gradebook.db").exists()
    with Gradebook(course.db_url, course.course_id) as gradebook:
        gradebook.add_assignment("0.1-vectors", duedate=DUE.replace(tzinfo=None))
    with pytest.raises(CourseError, match="not due before 2024-05-01 12:00 UTC"):
        publish(course, "0.1-vectors", now=datetime(2024, 5, 1, 11, 59, tzinfo=UTC))
    assert not (course.root / "solution").exists()


def test_after_the_due_date(course: Course, monkeypatch: pytest.MonkeyPatch) -> None:
    with Gradebook(course.db_url, course.course_id) as gradebook:
        gradebook.add_assignment("0.1-vectors", duedate=DUE.replace(tzinfo=None))
    monkeypatch.setattr("gradekit.authoring.solutions.solution", lambda course, lab: nbformat.v4.new_notebook())
    assert [path.name for path in publish(course, "0.1-vectors", now=DUE)] == ["0.1.1-axpy.ipynb"]


def test_a_reference_that_fails_is_not_published(broken) -> None:  # type: ignore[no-untyped-def]
    course: Course = broken({"    return a * x + y\n": "    return a * x - y\n"}, bank={})
    with pytest.raises(CourseError, match="does not pass its own tests"):
        solution(course, course.labs()[0])


def test_an_unknown_assignment(course: Course, tmp_path: Path) -> None:
    with pytest.raises(CourseError, match="There is no assignment 'nothing'"):
        publish(course, "nothing", before_deadline=True)
