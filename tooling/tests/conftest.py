"""Shared fixtures: a small course that has never heard of labkit, and its student's side."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from gradekit.authoring.sync import pairs, sync
from gradekit.course import Course

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


@pytest.fixture(scope="session")
def _generated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny course after ``nbgrader generate_assignment``, made once."""
    from nbgrader.apps.api import NbGraderAPI

    root = tmp_path_factory.mktemp("generated") / "course"
    course = build_course(root)
    done = NbGraderAPI(course.directory, config=course.config).generate_assignment("ps1")
    assert done["success"], done
    return root


@pytest.fixture
def tiny_course(_generated: Path, tmp_path: Path) -> Course:
    """A fresh copy of the tiny course, released form and gradebook included."""
    root = tmp_path / "course"
    shutil.copytree(_generated, root)
    (root / "nbgrader_config.py").write_text(CONFIG.format(exchange=str(root / "exchange")))
    return Course.open(root)
