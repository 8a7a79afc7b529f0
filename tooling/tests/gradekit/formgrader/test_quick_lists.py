"""The formgrader's quick lists say what nbgrader's own say."""

from __future__ import annotations

import os
import random
import shutil
import sqlite3
import sys
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from gradekit.course import Course
from gradekit.formgrader.quick import QuickAPI, QuickGradebook
from gradekit.gradebook import INDEXES, index
from nbgrader.api import Gradebook, SubmittedAssignment
from nbgrader.apps.api import NbGraderAPI
from tinycourse import submit


def _fill(gradebook: Gradebook) -> None:
    """Two assignments of two notebooks with cells of every kind, marked in every way; some students hand in less."""
    chance = random.Random(1)
    for name in ("ps1", "ps2"):
        gradebook.add_assignment(name)
        for lab in ("a", "b"):
            gradebook.add_notebook(lab, name)
            gradebook.add_grade_cell("test", lab, name, max_score=3, cell_type="code")
            gradebook.add_grade_cell("free", lab, name, max_score=0, cell_type="code")
            gradebook.add_grade_cell("essay", lab, name, max_score=2, cell_type="markdown")
            gradebook.add_task_cell("task", lab, name, max_score=1.5, cell_type="markdown")
        gradebook.add_notebook("ungraded", name)
    for number in range(12):
        gradebook.add_student(f"s{number}", first_name=f"F{number}" if number else None, last_name="L")
        for name in ("ps1", "ps2")[: chance.randint(0, 2)]:
            handed_in = datetime(2026, 1, number + 1)
            work: SubmittedAssignment = gradebook.add_submission(name, f"s{number}", timestamp=handed_in)
            for notebook in work.notebooks:
                notebook.flagged = chance.random() < 0.3
                for grade in notebook.grades:
                    grade.auto_score = chance.choice([None, 0, 1, 1.5])
                    grade.manual_score = chance.choice([None, None, 0, 0.5])
                    grade.extra_credit = chance.choice([None, None, 0.25])
                    grade.needs_manual_grade = chance.random() < 0.3
    gradebook.add_student("nothing-yet")
    gradebook.db.commit()


def _same(quick: list[dict[str, Any]], stock: list[dict[str, Any]]) -> bool:
    def near(row: dict[str, Any]) -> dict[str, Any]:
        return {key: pytest.approx(value) if isinstance(value, float) else value for key, value in row.items()}

    return {row["id"]: row for row in quick} == {row["id"]: near(row) for row in stock}


@pytest.fixture(scope="module")
def empty(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A gradebook with nothing in it; nbgrader calls alembic by its name to make one."""
    path = tmp_path_factory.mktemp("gradebook") / "empty.db"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PATH", str(Path(sys.executable).parent), prepend=os.pathsep)
        Gradebook(f"sqlite:///{path}").close()
    return path


@pytest.fixture(scope="module")
def full(empty: Path) -> Path:
    path = empty.with_name("full.db")
    shutil.copy(empty, path)
    with Gradebook(f"sqlite:///{path}") as gradebook:
        _fill(gradebook)
    return path


@pytest.fixture
def url(full: Path, tmp_path: Path) -> str:
    return f"sqlite:///{shutil.copy(full, tmp_path / 'gradebook.db')}"


def test_every_list_is_nbgraders(url: str) -> None:
    with Gradebook(url) as stock, QuickGradebook(url) as quick:
        assert len(quick.student_dicts()) == 13
        assert _same(quick.student_dicts(), stock.student_dicts())
        for name in ("ps1", "ps2"):
            assert _same(quick.submission_dicts(name), stock.submission_dicts(name))
            for lab in ("a", "b", "ungraded"):
                assert _same(quick.notebook_submission_dicts(lab, name), stock.notebook_submission_dicts(lab, name))
                ours, theirs = (one.notebook_submissions(lab, name) for one in (quick, stock))
                named = [sorted((row.id, row.name, row.student.id) for row in rows) for rows in (ours, theirs)]
                assert named[0] == named[1]
        assert any(row["failed_tests"] for row in quick.notebook_submission_dicts("a", "ps1"))
        assert quick.submission_dicts("none") == []


def test_a_gradebook_without_points_lists_its_students(empty: Path, tmp_path: Path) -> None:
    url = f"sqlite:///{shutil.copy(empty, tmp_path / 'gradebook.db')}"
    with QuickGradebook(url) as quick, Gradebook(url) as stock:
        quick.add_student("ann")
        assert _same(quick.student_dicts(), stock.student_dicts())


def test_the_indexes_are_there_and_made_once(url: str) -> None:
    for _ in range(2):
        QuickGradebook(url).close()
    with sqlite3.connect(url.removeprefix("sqlite:///")) as database:
        names = {name for (name,) in database.execute("SELECT name FROM sqlite_master WHERE type = 'index'")}
        plan = str(database.execute("EXPLAIN QUERY PLAN SELECT * FROM grade WHERE notebook_id = 'x'").fetchall())
    assert names >= set(INDEXES)
    assert "gradekit_grade_notebook" in plan


def test_a_gradebook_that_is_being_written_gets_them_later(url: str) -> None:
    path = url.removeprefix("sqlite:///")
    with Gradebook(f"{url}?timeout=0.1") as gradebook, sqlite3.connect(path) as writer:
        writer.execute("BEGIN IMMEDIATE")
        index(gradebook)
        writer.rollback()
        assert not writer.execute("SELECT * FROM sqlite_master WHERE name LIKE 'gradekit%'").fetchall()
        index(gradebook)
        assert writer.execute("SELECT * FROM sqlite_master WHERE name LIKE 'gradekit%'").fetchall()


def test_a_students_submissions_are_nbgraders(tiny_course: Course) -> None:
    submit(tiny_course, "ann")
    (tiny_course.root / "source" / "ps0").mkdir()
    for student in ("ann", "nobody"):
        stock, quick = (
            api(tiny_course.directory, config=tiny_course.config).get_student_submissions(student)
            for api in (NbGraderAPI, QuickAPI)
        )
        assert quick == stock and [row["name"] for row in quick] == ["ps0", "ps1"]
