from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from gradekit.authoring.release import released
from gradekit.authoring.replay import ReplayError, Variant, replay, variant
from gradekit.authoring.run import Execution, in_kernel
from gradekit.cli import app
from gradekit.course import Course
from gradekit.grading.judge import Status
from gradekit.kernels import ForkServer
from typer.testing import CliRunner

LAB = "0.1.1-axpy"


def run(course: Course, *steps: str, **options: object) -> Execution:
    """One variant behind the last cell of the clean lab."""
    lab = course.lab(LAB)
    variants = [Variant("it", None, [(-1, step) for step in steps], **options)]  # type: ignore[arg-type]
    _, runs = replay(course, lab, lab.notebook, variants)
    return runs["it"]


def test_variants_share_the_trunk_and_not_each_other(course: Course) -> None:
    lab = course.lab(LAB)
    stub = released(course, lab, hidden_tests=True)
    other = Variant("other", None, [(-1, "axpy = 3"), (-1, "axpy")])
    same = Variant("same", None, [(-1, "axpy(2.0, np.array([1.0]), np.array([1.0]))[0]")])
    trunk, runs = replay(course, lab, lab.notebook, [other, variant("stub", lab.notebook, stub), same])
    assert all(verdict.score == verdict.points for verdict in trunk.verdicts.values())
    assert runs["other"].beside == ["", "3"] and runs["same"].beside == ["np.float64(3.0)"]
    assert [verdict.score for verdict in runs["stub"].verdicts.values()] == [0, 0, 0]
    assert trunk.peak > 10e6 and all(seconds >= 0 for seconds in trunk.seconds.values())


def test_a_variant_that_dies_hangs_or_fills_the_memory_ends_alone(course: Course) -> None:
    assert run(course, "import os; os._exit(3)").ended == "left with exit status 3"
    assert run(course, "import os; os.kill(os.getpid(), 11)").ended == "killed by signal 11"
    stubborn = "while True:\n    try:\n        while True: pass\n    except BaseException: pass"
    assert run(course, stubborn, limit=1.0).ended == "timed out"
    slow = run(course, "while True: pass", "1 + 1", cell_limit=0.2)
    assert slow.beside == ["CellTimeoutError: the cell ran too long", "2"]
    assert "MemoryError" in run(course, "x = bytearray(1 << 30)", memory=1 << 29).beside[0]


def test_variants_that_write_the_same_file_do_not_meet(course: Course) -> None:
    lab = course.lab(LAB)
    write = "open('f', 'x').write({!r}); import time; time.sleep(0.2); open('f').read()"
    variants = [Variant(word, None, [(-1, write.format(word))]) for word in ("a", "b")]
    _, runs = replay(course, lab, lab.notebook, variants, jobs=2)
    assert [runs[word].beside for word in ("a", "b")] == [["'a'"], ["'b'"]]
    assert not (lab.path.parent / "f").exists()


def test_a_variant_reaches_nothing_outside_the_sandbox(course: Course) -> None:
    """A mutant may do anything: no file of the course, no other process, no network, and not the request either."""
    said = run(
        course,
        f"open({str(course.root / 'nbgrader_config.py')!r}).read()",
        "import os; sorted(name for name in os.listdir('.') if name.startswith('.'))",
        "import socket; socket.create_connection(('192.0.2.1', 80), timeout=2)",
        "len([name for name in os.listdir('/proc') if name.isdigit()]) < 8",
    ).beside
    assert "Error" in said[0]
    assert said[1] == "[]"
    assert "Error" in said[2]
    assert said[3] == "True"


def test_a_notebook_that_kills_its_own_process_is_an_error(broken: Callable[..., Course]) -> None:
    course = broken({"import time\n": "import time\nimport os\nos._exit(4)\n"})
    lab = course.lab(LAB)
    with pytest.raises(ReplayError, match="ended before the first cell"):
        replay(course, lab, lab.notebook)


def test_a_run_in_a_kernel_says_what_ended_it(broken: Callable[..., Course]) -> None:
    course = broken({"# Nothing to do.": "# %%\nimport os\nos.kill(os.getpid(), 9)\nos._exit(1)"})
    lab = course.lab(LAB)
    with ForkServer(("numpy",)) as server:
        result = in_kernel(course, lab, lab.notebook, server)
    assert result.ended and result.verdicts["test-axpy"].status is Status.PASSED
    assert len(result.notebook.cells) == len(lab.cells) and len(lab.cells) - 1 not in result.seconds


def test_the_table_of_answers_on_the_command_line(broken: Callable[..., Course]) -> None:
    course = broken(bank={"correct_odd.py": "# Odd.\n# %% axpy\ndef axpy(a, x, y):\n    return x\n"})
    done = CliRunner().invoke(app, ["answers", "0.1.1", "--course-dir", str(course.root), "--json"])
    rows = {row["answer"]: row for row in json.loads(done.stdout)}
    assert done.exit_code == 1
    assert rows["correct_odd"]["surprises"].keys() == {"test-axpy", "test-all"}
    assert rows["wrong_sign"]["surprises"] == {} and rows["wrong_sign"]["tests"]["test-axpy"]["expected"] == 0


def test_checking_on_the_command_line_is_an_error_when_a_gate_is(broken: Callable[..., Course], tmp_path: Path) -> None:
    course = broken({"    array([7.])\n": "    array([8.])\n"})
    done = CliRunner().invoke(app, ["check", "--course-dir", str(course.root), "--json"])
    (row,) = json.loads(done.stdout)
    assert done.exit_code == 1 and not row["passed"]
    failed = {gate["number"]: gate["faults"] for gate in row["gates"] if gate["state"] == "failed"}
    assert list(failed) == [9], failed
