"""``gradekit grade`` as the instructor meets it: a class with honest, broken and hostile submissions."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import nbformat
import pytest
from gradekit.course import Course, CourseError
from gradekit.grading.local import LocalGrader, visible_gpus
from gradekit.grading.plan import RECORD
from nbgrader.api import Gradebook
from nbgrader.apps.api import NbGraderAPI
from tinycourse import RIGHT, TINY_LAB, build_course, scores, submit

FULL = {"test-square": 2, "test-root": 3, "reflect": None}


def findings(course: Course, student: str) -> str:
    record = json.loads((course.path("autograded", "ps1", student) / RECORD).read_text())
    return "\n".join([*record["findings"], *(f for nb in record["notebooks"] for f in nb["findings"])])


def test_right_wrong_and_untouched(tiny_course: Course, grader: LocalGrader) -> None:
    submit(tiny_course, "right", RIGHT)
    submit(tiny_course, "half", {"square": RIGHT["square"], "root": "def root(x):\n    return x / 2"})
    submit(tiny_course, "untouched")
    result = grader.grade(tiny_course, "ps1")
    assert not result.failed
    assert scores(tiny_course, "right") == FULL
    assert scores(tiny_course, "half") == {"test-square": 2, "test-root": 2, "reflect": 0}
    assert scores(tiny_course, "untouched") == {"test-square": 0, "test-root": 0, "reflect": 0}


def test_a_warning_costs_nothing_and_an_error_only_its_cell(tiny_course: Course, grader: LocalGrader) -> None:
    noisy = "import sys, warnings\ndef square(x):\n    warnings.warn('careful')\n"
    noisy += "    print('!', file=sys.stderr)\n    return x * x"
    submit(tiny_course, "noisy", {**RIGHT, "square": noisy})
    submit(tiny_course, "broken", {**RIGHT, "square": "def square(x:"})
    grader.grade(tiny_course, "ps1")
    assert scores(tiny_course, "noisy") == FULL
    assert scores(tiny_course, "broken") == {**FULL, "test-square": 0}


@pytest.mark.parametrize(
    ("code", "word"),
    [
        ("import os; os._exit(3)", "exit status 3"),
        ("import ctypes; ctypes.string_at(0)", "SIGSEGV"),
    ],
)
def test_a_dead_kernel_costs_its_cell(tiny_course: Course, grader: LocalGrader, code: str, word: str) -> None:
    submit(tiny_course, "fatal", {**RIGHT, "square": f"{RIGHT['square']}\n{code}"})
    submit(tiny_course, "in-test", {**RIGHT, "square": f"def square(x):\n    {code}"})
    submit(tiny_course, "neighbour", RIGHT)
    grader.grade(tiny_course, "ps1")
    # The cell that killed it defines nothing in the replay; what does not need it is graded.
    assert scores(tiny_course, "fatal") == {**FULL, "test-square": 0}
    assert scores(tiny_course, "in-test") == {**FULL, "test-square": 0}
    assert scores(tiny_course, "neighbour") == FULL
    assert word in findings(tiny_course, "in-test")


def test_a_hung_cell_costs_itself(tiny_course: Course, grader: LocalGrader) -> None:
    tiny_course.config.Execute.timeout = 2
    submit(tiny_course, "hung", {**RIGHT, "square": "def square(x):\n    while True: pass"})
    loop = "    while True:\n        try:\n            while True: pass\n        except BaseException: pass"
    stubborn = f"def square(x):\n{loop}"
    submit(tiny_course, "stubborn", {**RIGHT, "square": stubborn})
    start = time.monotonic()
    grader.grade(tiny_course, "ps1")
    assert scores(tiny_course, "hung") == {**FULL, "test-square": 0}
    assert scores(tiny_course, "stubborn") == {**FULL, "test-square": 0}
    assert time.monotonic() - start < 60


@pytest.mark.parametrize(
    "content", [b"", b"{", b"\x00" * 10, b"[]", b'{"nbformat": 99, "cells": []}', b'{"nbformat": 4, "cells": []}']
)
def test_a_broken_notebook_is_zero_with_the_reason_and_the_rest_is_graded(
    tiny_course: Course, grader: LocalGrader, content: bytes
) -> None:
    (submit(tiny_course, "broken") / "warm-up.ipynb").write_bytes(content)
    submit(tiny_course, "right", RIGHT)
    result = grader.grade(tiny_course, "ps1")
    assert not result.failed
    assert scores(tiny_course, "broken") == {"test-square": 0, "test-root": 0, "reflect": 0}
    assert scores(tiny_course, "right") == FULL
    assert findings(tiny_course, "broken")


def test_a_renamed_notebook_is_zero_and_says_what_to_do(tiny_course: Course, grader: LocalGrader) -> None:
    folder = submit(tiny_course, "renamer", RIGHT)
    (folder / "warm-up.ipynb").rename(folder / "warm-up (1).ipynb")
    grader.grade(tiny_course, "ps1")
    assert scores(tiny_course, "renamer") == {"test-square": 0, "test-root": 0, "reflect": 0}
    assert "warm-up (1).ipynb: renamed?" in findings(tiny_course, "renamer")
    (folder / "warm-up (1).ipynb").rename(folder / "warm-up.ipynb")
    grader.grade(tiny_course, "ps1")
    assert scores(tiny_course, "renamer") == FULL


def test_links_pipes_and_shadows_lead_nowhere(tiny_course: Course, grader: LocalGrader, tmp_path: Path) -> None:
    secret = tmp_path / "secret.txt"
    secret.write_text("the answers")
    folder = submit(tiny_course, "sly", {**RIGHT, "square": "data = open('link.txt').read()\n" + RIGHT["square"]})
    (folder / "link.txt").symlink_to(secret)
    os.mkfifo(folder / "pipe")
    (folder / "math.py").write_text("raise SystemExit")
    grader.grade(tiny_course, "ps1")
    assert scores(tiny_course, "sly") == {**FULL, "test-square": 0}
    assert "link.txt, pipe" in findings(tiny_course, "sly")
    assert not (tiny_course.path("autograded", "ps1", "sly") / "link.txt").exists()


def test_data_files_are_there_and_the_course_s_own_win(tiny_course: Course, grader: LocalGrader) -> None:
    read = "numbers = open('data/numbers.txt').read()\nassert numbers == '1 2 3\\n'\n" + RIGHT["square"]
    folder = submit(tiny_course, "reader", {**RIGHT, "square": read})
    (folder / "data" / "numbers.txt").write_text("9 9 9\n")
    grader.grade(tiny_course, "ps1")
    assert scores(tiny_course, "reader") == FULL


def test_graded_and_unchanged_is_skipped_and_changed_is_not(tiny_course: Course, grader: LocalGrader) -> None:
    submit(tiny_course, "a", RIGHT)
    folder = submit(tiny_course, "b")
    assert len(grader.grade(tiny_course, "ps1").graded) == 2
    assert len(grader.grade(tiny_course, "ps1").skipped) == 2
    notebook = (folder / "warm-up.ipynb").read_text()
    (folder / "warm-up.ipynb").write_text(notebook.replace("raise NotImplementedError()", "return x * x", 1))
    again = grader.grade(tiny_course, "ps1")
    assert [submission.student for submission, _ in again.graded] == ["b"]
    assert scores(tiny_course, "b") == {"test-square": 2, "test-root": 0, "reflect": 0}
    assert len(grader.grade(tiny_course, "ps1", force=True).graded) == 2


def test_manual_marks_extra_credit_and_comments_survive(tiny_course: Course, grader: LocalGrader) -> None:
    submit(tiny_course, "a", RIGHT)
    grader.grade(tiny_course, "ps1")
    with Gradebook(tiny_course.db_url, tiny_course.course_id) as gradebook:
        grade = gradebook.find_grade("reflect", "warm-up", "ps1", "a")
        grade.manual_score, grade.extra_credit, grade.needs_manual_grade = 1.5, 0.5, False
        gradebook.find_comment("square", "warm-up", "ps1", "a").manual_comment = "neat"
        gradebook.db.commit()
    grader.grade(tiny_course, "ps1", force=True)
    with Gradebook(tiny_course.db_url, tiny_course.course_id) as gradebook:
        grade = gradebook.find_grade("reflect", "warm-up", "ps1", "a")
        assert (grade.manual_score, grade.extra_credit, grade.needs_manual_grade) == (1.5, 0.5, True)
        assert gradebook.find_comment("square", "warm-up", "ps1", "a").comment == "neat"
        assert gradebook.find_submission("ps1", "a").score == 2 + 3 + 1.5 + 0.5


def test_an_unknown_assignment_is_refused_with_those_that_exist(tiny_course: Course, grader: LocalGrader) -> None:
    with pytest.raises(CourseError, match=r"There are: ps1\."):
        grader.grade(tiny_course, "ps2")


def test_a_killed_run_loses_nothing_and_goes_on(tiny_course: Course) -> None:
    """SIGKILL at several moments: what was recorded stands, the rest is graded by the next run, nothing is doubled."""
    students = [f"s{i:02}" for i in range(12)]
    for student in students:
        submit(tiny_course, student, RIGHT)
    command = [sys.executable, "-m", "gradekit.cli", "grade", "ps1", "--course-dir", str(tiny_course.root)]
    for seconds in (2.5, 3.5, 4.0):
        quiet = subprocess.DEVNULL
        process = subprocess.Popen(command, stdout=quiet, stderr=quiet, start_new_session=True)
        try:
            process.wait(seconds)
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGKILL)
            process.wait()
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    for student in students:
        assert scores(tiny_course, student) == FULL
    with Gradebook(tiny_course.db_url, tiny_course.course_id) as gradebook:
        assert len(gradebook.assignment_submissions("ps1")) == len(students)
    assert not list(tiny_course.path("autograded", ".").glob(".staging/*/"))


def test_a_locked_gradebook_is_waited_for(tiny_course: Course, grader: LocalGrader) -> None:
    import sqlite3
    import threading

    submit(tiny_course, "a", RIGHT)
    holder = sqlite3.connect(tiny_course.root / "gradebook.db", check_same_thread=False)
    holder.execute("BEGIN IMMEDIATE")
    threading.Timer(7, holder.rollback).start()
    assert not grader.grade(tiny_course, "ps1").failed
    assert scores(tiny_course, "a") == FULL


ASKS = """import math, os
class NotGradedHere(Exception): pass
def require_gpu(what):
    if os.environ["CUDA_VISIBLE_DEVICES"] not in ("3", "5"): raise NotGradedHere(what)
"""


def test_a_job_that_wants_a_gpu_gets_one_of_those_listed_and_what_waited_for_one_is_graded_again(
    tmp_path: Path, grader: LocalGrader
) -> None:
    text = TINY_LAB.replace("import math\n", ASKS).replace("assert square(3)", "require_gpu('this')\nassert square(3)")
    course = build_course(tmp_path / "course", text)
    source = course.path("source", "ps1") / "warm-up.ipynb"
    notebook = nbformat.read(source, as_version=4)
    notebook.metadata["gradekit"]["gpu"] = True
    nbformat.write(notebook, source)
    done = NbGraderAPI(course.directory, config=course.config).generate_assignment("ps1")
    assert done["success"], done["log"]
    for student in ("a", "b", "c"):
        submit(course, student, RIGHT)
    grader.grade(course, "ps1")
    assert scores(course, "a") == {**FULL, "test-square": None}
    assert len(grader.grade(course, "ps1").skipped) == 3
    with LocalGrader(1, gpus=("3", "5")) as with_gpus:
        result = with_gpus.grade(course, "ps1")
        assert {outcome.gpu for _, (outcome,) in result.graded} == {"3", "5"}
        assert len(with_gpus.grade(course, "ps1").skipped) == 3
    assert scores(course, "a") == scores(course, "b") == scores(course, "c") == FULL


@pytest.mark.parametrize(
    ("visible", "found"), [("", ()), ("2", ("2",)), ("1, 0", ("1", "0")), ("GPU-8f,MIG-3", ("GPU-8f", "MIG-3"))]
)
def test_the_gpus_of_a_machine_are_those_it_was_given(
    visible: str, found: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    assert visible_gpus() == found
