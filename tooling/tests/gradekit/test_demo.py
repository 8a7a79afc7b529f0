"""A class takes the tiny course: fetch, answer, submit, collect, grade, feedback, as ``make`` runs it."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from gradekit.course import Course
from gradekit.demo.plan import Style, plan_class
from nbgrader.api import Gradebook
from tinycourse import build_course

BANK = {
    "correct_power.py": "# A power instead of a product.\n\n# %% square\ndef square(x):\n    return x**2\n",
    "correct_noisy.py": (
        "# Warns on stderr, which costs nothing.\n\n# %% root\nimport warnings\n\n\ndef root(x):\n"
        '    warnings.warn("slow")\n    return x**0.5\n'
    ),
    "wrong_double.py": "# loses: test-square\n# Doubles.\n\n# %% square\ndef square(x):\n    return x + x\n",
    "wrong_half.py": "# loses: test-root keeps 2\n# Right for 0 and 4.\n\n# %% root\ndef root(x):\n    return x / 2\n",
    "wrong_unfinished.py": "# loses: test-root\n# Stopped half way.\n\n# %% root\n# untouched\n",
}


#: Of eight students, this seed makes two late and four who submit twice.
SEED = "1"


@pytest.fixture(scope="module")
def taught(tmp_path_factory: pytest.TempPathFactory) -> tuple[Course, str]:
    """The tiny course after ``gradekit demo``, and what that printed."""
    root = tmp_path_factory.mktemp("demo") / "course"
    course = build_course(root)
    bank = root / "answers" / "warm-up"
    bank.mkdir(parents=True)
    for name, text in BANK.items():
        (bank / name).write_text(text)
    return course, gradekit(course, "demo", "--students", "8", "--seed", SEED)


def gradekit(course: Course, *arguments: str, status: int = 0) -> str:
    """Run the command as a user does; everything that it printed."""
    done = subprocess.run(
        [sys.executable, "-m", "gradekit.cli", *arguments, "--course-dir", str(course.root)],
        capture_output=True,
        text=True,
        env={**os.environ, "COLUMNS": "160"},
        check=False,
    )
    assert done.returncode == status, done.stdout + done.stderr
    return done.stdout + done.stderr


def marks(course: Course) -> dict[str, float]:
    with Gradebook(course.db_url, course.course_id) as gradebook:
        grades = [
            (s.student.id, g.auto_score or 0)
            for s in gradebook.assignment_submissions("ps1")
            for n in s.notebooks
            for g in n.grades
        ]
    return {student: sum(score for name, score in grades if name == student) for student, _ in grades}


def test_the_gradebook_holds_what_the_answer_bank_says(taught: tuple[Course, str]) -> None:
    course, printed = taught
    plans = plan_class(course, 8, int(SEED))
    (lab,) = course.labs("ps1")
    assert marks(course) == {plan.student: sum(plan.expected(lab).values()) for plan in plans}
    assert {plan.style("warm-up") for plan in plans} >= {Style.REFERENCE, Style.UNTOUCHED, "unfinished"}
    for plan in plans:
        assert re.search(rf"{plan.student}\b.*warm-up", printed)
    assert str(course.root / "gradebook.db") in printed
    assert "make formgrader" in printed


def test_late_and_repeated_submissions_went_through_the_exchange(taught: tuple[Course, str]) -> None:
    course, _ = taught
    plans = plan_class(course, 8, int(SEED))
    inbound = [p.name.split("+")[0] for p in (course.exchange / course.course_id / "inbound").iterdir()]
    with Gradebook(course.db_url, course.course_id) as gradebook:
        for plan in plans:
            assert inbound.count(plan.student) == 1 + plan.twice
            late = gradebook.find_submission("ps1", plan.student).total_seconds_late > 0
            assert late == plan.late
    assert any(plan.late for plan in plans)
    assert any(plan.twice for plan in plans)


def test_every_student_has_fetched_their_feedback(taught: tuple[Course, str]) -> None:
    course, _ = taught
    for plan in plan_class(course, 8, int(SEED)):
        work = course.root / ".demo" / plan.student / "work" / "ps1"
        assert len(list((work / "feedback").rglob("warm-up.html"))) == 1
        assert "the square of a negative number" not in (work / "warm-up.ipynb").read_text()


def test_the_release_has_neither_solutions_nor_the_text_half(taught: tuple[Course, str]) -> None:
    course, _ = taught
    released = course.exchange / course.course_id / "outbound" / "ps1"
    assert sorted(p.name for p in released.rglob("*") if p.is_file()) == ["numbers.txt", "warm-up.ipynb"]
    text = (released / "warm-up.ipynb").read_text()
    for secret in ("return x * x", "square(-4)", "One point for a measurement"):
        assert secret not in text


def test_again_does_nothing_and_a_changed_lab_only_what_it_must(taught: tuple[Course, str]) -> None:
    course, _ = taught
    before = marks(course)
    stamps = {p: p.stat().st_mtime_ns for p in course.root.glob("autograded/*/ps1/warm-up.ipynb")}
    inbound = sorted(p.name for p in (course.exchange / course.course_id / "inbound").iterdir())
    gradekit(course, "demo", "--students", "8", "--seed", SEED)
    assert {p: p.stat().st_mtime_ns for p in stamps} == stamps
    assert sorted(p.name for p in (course.exchange / course.course_id / "inbound").iterdir()) == inbound
    assert marks(course) == before


def test_a_real_class_is_not_written_among(taught: tuple[Course, str]) -> None:
    course, _ = taught
    with Gradebook(course.db_url, course.course_id) as gradebook:
        gradebook.add_student("a-real-person")
    try:
        assert "a-real-person" in gradekit(course, "demo", status=2)
    finally:
        with Gradebook(course.db_url, course.course_id) as gradebook:
            gradebook.remove_student("a-real-person")


def test_an_exchange_that_cannot_be_written_is_one_line_that_says_what_to_do(tmp_path: Path) -> None:
    course = build_course(tmp_path / "course")
    bank = course.root / "answers" / "warm-up"
    bank.mkdir(parents=True)
    for name, text in BANK.items():
        (bank / name).write_text(text)
    config = course.root / "nbgrader_config.py"
    config.write_text(config.read_text() + 'c.Exchange.root = "/proc/exchange"\n')
    printed = gradekit(course, "demo", "--students", "1", status=2)
    assert "/proc/exchange is not a folder that you can write to" in printed
    assert "NBGRADER_EXCHANGE" in printed
    assert "Traceback" not in printed


def test_a_lab_without_an_answer_bank_is_named(tmp_path: Path) -> None:
    course = build_course(tmp_path / "course")
    assert "No answer bank for warm-up" in gradekit(course, "demo", status=2)
