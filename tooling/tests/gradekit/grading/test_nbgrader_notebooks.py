"""Every notebook of nbgrader's own tests, handed in: loops, side effects, broken metadata, cheats, other formats."""

from __future__ import annotations

import shutil
import time
from pathlib import Path

import nbgrader.tests
import pytest
from gradekit.course import Course
from gradekit.grading.local import LocalGrader
from nbgrader.api import Gradebook
from nbgrader.apps.api import NbGraderAPI

FILES = Path(nbgrader.tests.__file__).parent
NOTEBOOKS = sorted(FILES.rglob("*.ipynb"))
LIMIT_S = 2


@pytest.fixture
def course(tmp_path: Path) -> Course:
    """The assignment that nbgrader's tests of its autograder use: one notebook, two test cells, two for a person."""
    source = tmp_path / "source" / "ps1"
    source.mkdir(parents=True)
    shutil.copy(FILES / "apps" / "files" / "submitted-unchanged.ipynb", source / "p1.ipynb")
    (tmp_path / "nbgrader_config.py").write_text(f"c = get_config()\nc.Execute.timeout = {LIMIT_S}\n")
    course = Course.open(tmp_path)
    done = NbGraderAPI(course.directory, config=course.config).generate_assignment("ps1")
    assert done["success"], done["log"]
    return course


def hand_in(course: Course, student: str, path: Path) -> None:
    folder = course.path("submitted", "ps1", student)
    folder.mkdir(parents=True)
    shutil.copy(path, folder / "p1.ipynb")


def test_all_of_them_are_graded_and_nothing_hangs(course: Course, grader: LocalGrader) -> None:
    assert len(NOTEBOOKS) > 60
    for number, path in enumerate(NOTEBOOKS):
        hand_in(course, f"s{number:03}-{path.stem}", path)
    hand_in(course, "zz-honest", FILES / "apps" / "files" / "submitted-changed.ipynb")
    start = time.monotonic()
    result = grader.grade(course, "ps1")
    assert result.failed == {}
    assert time.monotonic() - start < 300
    assert len(result.graded) == len(NOTEBOOKS) + 1
    with Gradebook(course.db_url, course.course_id) as gradebook:
        for row in gradebook.assignment_submissions("ps1"):
            (notebook,) = row.notebooks
            assert {grade.name for grade in notebook.grades} == {"foo", "bar", "baz", "quux"}
            for grade in notebook.grades:
                assert grade.auto_score in (None, 0, grade.max_score), row.student.id
                assert grade.needs_manual_grade is (grade.auto_score is None), row.student.id
        honest = gradebook.find_submission_notebook("p1", "ps1", "zz-honest")
        assert (honest.score, honest.max_score, honest.needs_manual_grade) == (2, 7, True)


@pytest.mark.parametrize(
    ("name", "score", "reading"),
    [
        ("submitted-unchanged", 1, False),
        ("submitted-changed", 2, True),
        ("submitted-cheat-attempt", 1, True),
        ("submitted-cheat-attempt-alternative", 1, True),
    ],
)
def test_marks_that_nbgrader_s_own_tests_expect(
    course: Course, grader: LocalGrader, name: str, score: float, reading: bool
) -> None:
    hand_in(course, "a", FILES / "apps" / "files" / f"{name}.ipynb")
    grader.grade(course, "ps1")
    with Gradebook(course.db_url, course.course_id) as gradebook:
        notebook = gradebook.find_submission_notebook("p1", "ps1", "a")
        assert (notebook.score, notebook.needs_manual_grade) == (score, reading)


def test_a_side_effect_stays_in_the_sandbox(course: Course, grader: LocalGrader) -> None:
    hand_in(course, "a", FILES / "apps" / "files" / "side-effects.ipynb")
    grader.grade(course, "ps1")
    assert not list(course.root.rglob("side-effect.txt"))
