"""The gradebook in PostgreSQL, by the environment variable that the course's own configuration reads."""

from __future__ import annotations

import csv
import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from gradekit.authoring.sync import pairs, sync
from gradekit.course import Course
from gradekit.grading.local import LocalGrader
from nbgrader.api import Gradebook
from nbgrader.apps.api import NbGraderAPI
from runningpostgresql import database
from tinycourse import RIGHT, build_course, scores, submit

CONFIG = Path(__file__).parents[4] / "nbgrader_config.py"
FULL = {"test-square": 2, "test-root": 3, "reflect": None}


@pytest.fixture(scope="module")
def db_url() -> Iterator[str]:
    with database("gradebook") as url:
        yield url


@pytest.fixture(scope="module")
def course(db_url: str, tmp_path_factory: pytest.TempPathFactory, grader: LocalGrader) -> Iterator[Course]:
    """The tiny course under this repository's nbgrader_config.py, graded, with 1.5 points by a person."""
    root = tmp_path_factory.mktemp("postgresql") / "course"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("NBGRADER_DB_URL", db_url)
        build_course(root)
        shutil.copy(CONFIG, root)
        course = Course.open(root)
        done = NbGraderAPI(course.directory, config=course.config).generate_assignment("ps1")
        assert done["success"], done["log"]
        submit(course, "right", RIGHT)
        submit(course, "untouched")
        assert not grader.grade(course, "ps1").failed
        with Gradebook(db_url, course.course_id) as gradebook:
            gradebook.find_grade("reflect", "warm-up", "ps1", "right").manual_score = 1.5
            gradebook.db.commit()
        yield course


def gradekit(course: Course, *arguments: str) -> str:
    command = [sys.executable, "-m", "gradekit.cli", *arguments, "--course-dir", str(course.root)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_marks_go_to_postgresql_as_to_sqlite(course: Course, db_url: str, grader: LocalGrader) -> None:
    assert course.db_url == db_url
    assert scores(course, "right") == FULL
    assert scores(course, "untouched") == {"test-square": 0, "test-root": 0, "reflect": 0}
    assert not list(course.root.glob("*.db"))


def test_grading_again_keeps_what_a_person_gave(course: Course, db_url: str, grader: LocalGrader) -> None:
    assert len(grader.grade(course, "ps1", force=True).graded) == 2
    assert len(grader.grade(course, "ps1").skipped) == 2
    with Gradebook(db_url, course.course_id) as gradebook:
        assert gradebook.find_submission("ps1", "right").score == 6.5


def test_the_commands_work_on_it(course: Course) -> None:
    assert "0 failed" in gradekit(course, "grade", "ps1", "--force", "--jobs", "2")
    gradekit(course, "export", "--format", "csv", "--to", str(course.root / "marks.csv"))
    with (course.root / "marks.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    earned = {
        student: sum(float(row["score"]) for row in rows if row["student_id"] == student)
        for student in ("right", "untouched")
    }
    assert earned == {"right": 6.5, "untouched": 0}
    gradekit(course, "report")
    page = (course.root / "reports" / "ps1.html").read_text()
    assert "6.5" in page


def test_regrading_takes_cells_out_and_in_and_a_dry_run_leaves_no_trace(course: Course, db_url: str) -> None:
    """PostgreSQL, unlike SQLite here, refuses rows that point to rows that are gone."""
    text = course.path("source", "ps1") / "warm-up.py"
    content = text.read_text().replace('"grade_id": "test-root"', '"grade_id": "test-powers"')
    text.write_text(content.replace("credit += root(x) == y", "credit += root(x) ** 2 == x"))
    for stem in pairs(course):
        assert not sync(stem).failed
    preview = json.loads(gradekit(course, "regrade", "ps1", "--lower", "--dry-run", "--json"))
    assert scores(course, "right") == FULL
    result = json.loads(gradekit(course, "regrade", "ps1", "--lower", "--json"))
    assert preview["students"] == result["students"]
    assert {one["student"]: (one["before"], one["after"]) for one in result["students"]} == {
        "right": (6.5, 6.5), "untouched": (0, 0)
    }  # fmt: skip
    assert scores(course, "right") == {"test-square": 2, "test-powers": 3, "reflect": None}
    with Gradebook(db_url, course.course_id) as gradebook:
        assert {cell.name for cell in gradebook.find_notebook("warm-up", "ps1").grade_cells} == set(
            scores(course, "right")
        )
