# ruff: noqa: E501  (cell metadata is one line)
"""A small course that has never heard of labkit: one assignment, ``ps1``, with one notebook, ``warm-up``."""

from __future__ import annotations

import shutil
from pathlib import Path

import nbformat
from gradekit.authoring.sync import pairs, sync
from gradekit.course import Course
from nbgrader.api import Gradebook

TINY_LAB = '''\
# %% [markdown]
# # Warm-up

# %% nbgrader={"grade": false, "grade_id": "imports", "locked": true, "schema_version": 3, "solution": false, "task": false}
import math

# %% nbgrader={"grade": false, "grade_id": "square", "locked": false, "schema_version": 3, "solution": true, "task": false}
def square(x):
    """Return x times x."""
    ### BEGIN SOLUTION
    return x * x
    ### END SOLUTION

# %% nbgrader={"grade": true, "grade_id": "test-square", "locked": true, "points": 2, "schema_version": 3, "solution": false, "task": false}
assert square(3) == 9
### BEGIN HIDDEN TESTS
assert square(-4) == 16, "the square of a negative number is positive"
### END HIDDEN TESTS

# %% nbgrader={"grade": false, "grade_id": "root", "locked": false, "schema_version": 3, "solution": true, "task": false}
def root(x):
    """Return the square root of x; warn when x is negative."""
    ### BEGIN SOLUTION
    return math.sqrt(x)
    ### END SOLUTION

# %% nbgrader={"grade": true, "grade_id": "test-root", "locked": true, "points": 3, "schema_version": 3, "solution": false, "task": false}
credit = 0
for x, y in ((0, 0), (4, 2), (2.25, 1.5)):
    credit += root(x) == y
credit

# %% [markdown] nbgrader={"grade": true, "grade_id": "reflect", "locked": false, "points": 2, "schema_version": 3, "solution": true, "task": false}
# What did you notice?
#
# ### BEGIN MARK SCHEME
# One point for a measurement, one for a reason.
# ### END MARK SCHEME
'''

CONFIG = '''
c = get_config()
c.CourseDirectory.course_id = "tiny"
c.Exchange.root = {exchange!r}
c.ClearSolutions.code_stub = {{"python": "raise NotImplementedError()"}}
c.CourseDirectory.ignore = [".ipynb_checkpoints", "*.pyc", "__pycache__", "feedback", "warm-up.py"]
'''


def build_course(root: Path, text: str = TINY_LAB) -> Course:
    """A course with one assignment, ``ps1``, of one notebook, ``warm-up``, and one data file."""
    (root / "exchange").mkdir(parents=True)
    (root / "exchange").chmod(0o777)
    (root / "nbgrader_config.py").write_text(CONFIG.format(exchange=str(root / "exchange")))
    lab = root / "source" / "ps1"
    (lab / "data").mkdir(parents=True)
    (lab / "data" / "numbers.txt").write_text("1 2 3\n")
    (lab / "warm-up.py").write_text(text)
    course = Course.open(root)
    for stem in pairs(course):
        sync(stem)
    return course


RIGHT = {
    "square": "def square(x):\n    return x ** 2",
    "root": "def root(x):\n    return x ** 0.5",
    "reflect": "It got faster.",
}


def submit(course: Course, student: str, answers: dict[str, str] | None = None, when: str = "2026-01-01 10:00:00 UTC") -> Path:
    """A collected submission: the released notebook with ``answers`` typed into it, by grade id."""
    folder = course.path("submitted", "ps1", student)
    shutil.copytree(course.path("release", "ps1"), folder)
    (folder / "timestamp.txt").write_text(when)
    (folder / "submission_secret.txt").write_text(f"a secret of {student}")
    path = folder / "warm-up.ipynb"
    notebook = nbformat.read(path, as_version=4)
    for cell in notebook.cells:
        grade_id = cell.metadata.get("nbgrader", {}).get("grade_id")
        if grade_id in (answers or {}):
            cell.source = answers[grade_id]
    nbformat.write(notebook, path)
    return folder


def scores(course: Course, student: str) -> dict[str, float | None]:
    """The automatic scores in the gradebook, by grade id."""
    with Gradebook(course.db_url, course.course_id) as gradebook:
        grades = gradebook.find_submission_notebook("warm-up", "ps1", student).grades
        return {grade.name: grade.auto_score for grade in grades}
