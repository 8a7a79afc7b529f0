"""Points that evidence speaks against: zero, said to a person, and never taken from what the person decided."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest
from gradekit.course import Course
from gradekit.grading.holding import hold
from gradekit.grading.judge import Status, Verdict
from gradekit.grading.local import LocalGrader
from gradekit.grading.plan import RECORD
from gradekit.integrity.evidence import Evidence
from gradekit.kernels.manager import SandboxedKernelManager
from nbgrader.api import Gradebook
from tinycourse import RIGHT, scores, submit

ORDER = ["", "square", "test-square", "root", "test-root"]


def verdicts(**given: float | None) -> list[Verdict]:
    passed = {"test-square": 2.0, "test-root": 3.0, **given}
    return [Verdict(name, Status.PASSED, score, 3.0) for name, score in passed.items()]


@pytest.mark.parametrize(
    ("evidence", "held"),
    [
        (Evidence("canary", "test-root", "it passed", True), {"test-root"}),
        (Evidence("static", "test-root", "reads frames", False), set()),
        (Evidence("tampered", "square", "patched", True), {"test-square", "test-root"}),
        (Evidence("tampered", "root", "patched", True), {"test-root"}),
        (Evidence("tampered", "cell 99", "cut", True), {"test-square", "test-root"}),
    ],
)
def test_what_evidence_holds(evidence: Evidence, held: set[str]) -> None:
    out, reasons = hold(verdicts(), [evidence], ORDER)
    assert {v.grade_id for v in out if v.status is Status.HELD} == held == set(reasons)
    for verdict in out:
        if verdict.grade_id in held:
            assert (verdict.score, verdict.would_be) == (0, {"test-square": 2, "test-root": 3}[verdict.grade_id])
            assert evidence.what in verdict.reason


def test_nothing_is_held_where_nothing_was_earned() -> None:
    given = verdicts(**{"test-square": 0.0, "test-root": None})
    evidence = [Evidence("canary", name, "it passed", True) for name in ("test-square", "test-root")]
    assert hold(given, evidence, ORDER) == (tuple(given), {})


class Suspicious:
    """A guard that has something against one cell."""

    def before(self, cell_index: int, graded: bool, **settings: object) -> None: ...

    def sent(self, source: str) -> None: ...

    def saw(self, failed: bool, shown: list[str]) -> None: ...

    def after(self, cell_index: int) -> list[Evidence]:
        found = Evidence("tampered", f"cell {cell_index}", "math.isclose was exchanged", True)
        return [found] if cell_index == 4 else []

    def close(self) -> list[Evidence]:
        return [Evidence("static", "square", "reads frames", False)]


@pytest.fixture
def suspect(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    monkeypatch.setattr(SandboxedKernelManager, "guard", Suspicious())
    return monkeypatch.undo


def record(course: Course, student: str) -> dict:
    return json.loads((course.path("autograded", "ps1", student) / RECORD).read_text())


def test_held_points_wait_for_a_person(tiny_course: Course, grader: LocalGrader, suspect: Callable[[], None]) -> None:
    submit(tiny_course, "cheat", RIGHT)
    result = grader.grade(tiny_course, "ps1")
    assert scores(tiny_course, "cheat") == {"test-square": 2, "test-root": 0, "reflect": None}
    assert "held until a person gives points: 1 cells of 1 submissions" in result.summary()
    assert result.to_json()["held"] == {"cheat": 1}
    kept = record(tiny_course, "cheat")["notebooks"][0]
    assert [v["would_be"] for v in kept["verdicts"] if v["status"] == "held"] == [3]
    assert {one["what"] for one in kept["evidence"]} == {"math.isclose was exchanged", "reads frames"}

    # A later run says again that they wait; it does not grade again.
    again = grader.grade(tiny_course, "ps1")
    assert not again.graded and list(again.held.values()) == [1]

    with Gradebook(tiny_course.db_url) as gradebook:
        notebook = gradebook.find_submission_notebook("warm-up", "ps1", "cheat")
        grade = gradebook.find_grade("test-root", "warm-up", "ps1", "cheat")
        assert grade.needs_manual_grade and notebook.needs_manual_grade
        comment = gradebook.find_comment("root", "warm-up", "ps1", "cheat").comment
        assert "test-root, 3 of 3 points" in comment and "math.isclose was exchanged" in comment and "To do" in comment
        assert gradebook.find_comment("square", "warm-up", "ps1", "cheat").comment is None
        grade.manual_score, grade.needs_manual_grade = 3, False
        gradebook.db.commit()

    # The person has decided: the same work graded again, with or without evidence, keeps their points.
    for change in (lambda: None, suspect):
        change()
        final = grader.grade(tiny_course, "ps1", force=True)
        assert final.graded and not final.held
        with Gradebook(tiny_course.db_url) as gradebook:
            assert gradebook.find_grade("test-root", "warm-up", "ps1", "cheat").score == 3


def test_honest_work_is_not_held(tiny_course: Course, grader: LocalGrader) -> None:
    submit(tiny_course, "honest", RIGHT)
    result = grader.grade(tiny_course, "ps1")
    assert not result.held and "held" not in result.summary()
    assert scores(tiny_course, "honest") == {"test-square": 2, "test-root": 3, "reflect": None}
