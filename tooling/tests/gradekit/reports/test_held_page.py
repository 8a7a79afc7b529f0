"""The page of held points: everything a person needs to decide, and nothing in it that runs."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
from bs4 import BeautifulSoup
from gradekit.course import Course, CourseError
from gradekit.grading import holding
from gradekit.grading.judge import Status, Verdict
from gradekit.grading.local import LocalGrader
from gradekit.grading.plan import RECORD, read_targets
from gradekit.integrity.evidence import Evidence
from gradekit.reports import held
from gradekit.reports.page import NOTE_FOR_STAFF
from nbgrader.api import Gradebook
from tinycourse import RIGHT, submit

EVIL = "</pre><script>alert(1)</script><img src=x onerror=alert(1)>"


@pytest.fixture(scope="module")
def grader() -> Iterator[LocalGrader]:
    with LocalGrader(1) as grader:
        yield grader


@pytest.fixture
def graded(tiny_course: Course, grader: LocalGrader) -> Course:
    """Three submissions: ``eve``'s is held, ``max`` has a static finding, and nothing was found in ``ann``'s."""
    for student in ("ann", "eve", "max"):
        submit(tiny_course, student, {**RIGHT, "square": f"{RIGHT['square']}\n# {student} {EVIL}"})
    assert not grader.grade(tiny_course, "ps1").failed
    canary = Evidence("canary", "test-square", "passed with the empty stub in place of square", True)
    static = Evidence("static", "square", "line 3: reads the stack of calls (f_back)", False)
    _record(tiny_course, "eve", "test-square", [canary, static])
    _record(tiny_course, "max", "", [static])
    _record(tiny_course, "ann", "", [])
    return tiny_course


def _record(course: Course, student: str, held_cell: str, evidence: list[Evidence]) -> None:
    path = course.path("autograded", "ps1", student) / RECORD
    record: dict[str, Any] = json.loads(path.read_text())
    (notebook,) = record["notebooks"]
    for verdict in notebook["verdicts"]:
        if verdict["grade_id"] == held_cell:
            verdict.update(status=Status.HELD, score=0.0, would_be=2.0)
        elif verdict["status"] == Status.HELD:
            verdict["status"] = Status.PASSED
    notebook["evidence"] = [asdict(one) for one in evidence]
    path.write_text(json.dumps(record))


def _page(course: Course) -> BeautifulSoup:
    path = held.write(course, "ps1")
    assert path == course.root / "reports" / "held-ps1.html"
    return BeautifulSoup(path.read_text(), "html.parser")


def test_a_held_submission_shows_evidence_code_and_what_to_do(graded: Course) -> None:
    soup = _page(graded)
    text = soup.get_text()
    assert "The points of 1 cells in 1 notebooks wait for a person." in text
    first, second = soup("article")
    said = first.get_text()
    assert said.startswith("eve: warm-up")
    assert "test-square: held, would be 2 of 2 points" in said
    assert "canary in test-square: passed with the empty stub in place of square." in said
    assert "static in square: line 3: reads the stack of calls (f_back)." in said
    assert "return x ** 2" in said
    assert "# eve </pre><script>" in said
    assert "assert square(-4) == 16" in said
    assert "def root" not in said
    with Gradebook(graded.db_url, graded.course_id) as gradebook:
        row = gradebook.find_submission_notebook("warm-up", "ps1", "eve")
        assert f"formgrader/submissions/{row.id}" in said
    assert second.get_text().startswith("max: warm-up")
    assert "ann" not in text


def test_nothing_in_the_page_runs_or_is_fetched(graded: Course) -> None:
    soup = _page(graded)
    assert soup(["script", "img", "iframe", "link", "a"]) == []
    assert not [name for tag in soup.find_all(True) for name in tag.attrs if name.startswith("on") or name == "src"]


def test_points_that_a_person_gave_are_decided(graded: Course) -> None:
    with Gradebook(graded.db_url, graded.course_id) as gradebook:
        grade = gradebook.find_grade("test-square", "warm-up", "ps1", "eve")
        grade.manual_score = 1.5
        gradebook.db.commit()
    soup = _page(graded)
    assert "The points of 0 cells in 0 notebooks" in soup.get_text()
    assert [title.get_text() for title in soup("h2")] == ["Decided: 1", "Worth a look, no points held: 1"]
    assert "test-square: 1.5 given, would be 2 of 2 points" in soup.get_text()


def test_without_anything_found_there_is_no_page(graded: Course) -> None:
    assert held.write(graded, "ps1") is not None
    for student in ("eve", "max"):
        _record(graded, student, "", [])
    assert held.write(graded, "ps1") is None
    assert not (graded.root / "reports" / "held-ps1.html").exists()
    with pytest.raises(CourseError, match="no assignment 'ps9'"):
        held.write(graded, "ps9")


def test_a_lost_notebook_or_gradebook_row_does_not_lose_the_page(graded: Course, tmp_path: Path) -> None:
    (graded.path("autograded", "ps1", "eve") / "warm-up.ipynb").unlink()
    with Gradebook(graded.db_url, graded.course_id) as gradebook:
        gradebook.remove_submission("ps1", "eve")
    assert "passed with the empty stub" in _page(graded).get_text()


def test_the_note_for_staff_is_the_one_that_feedback_replaces(tiny_course: Course) -> None:
    (target,) = read_targets(tiny_course, "ps1")
    verdict = Verdict("test-square", Status.HELD, 0.0, 2.0, would_be=2.0)
    notes = holding.comments(target, [verdict], {"test-square": [Evidence("canary", "test-square", "why", True)]})
    assert notes
    assert all(NOTE_FOR_STAFF in note for note in notes.values())
