"""Whatever breaks, the others are graded, nothing hangs, nothing is half recorded, and the next run goes on."""

from __future__ import annotations

import json
import os
import resource
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import nbformat
import pytest
from gradekit.course import Course, CourseError
from gradekit.grading.local import LocalGrader
from gradekit.grading.plan import RECORD
from gradekit.grading.record import only_writer
from gradekit.kernels import Limits
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from nbgrader.api import Gradebook
from nbgrader.utils import parse_utc
from notebookmutation import mutated
from tinycourse import RIGHT, scores, submit

FULL = {"test-square": 2, "test-root": 3, "reflect": None}
MIB = 1 << 20


def slow(seconds: float) -> dict[str, str]:
    return {**RIGHT, "square": f"import time\ntime.sleep({seconds})\n{RIGHT['square']}"}


def findings(course: Course, student: str) -> str:
    record = json.loads((course.path("autograded", "ps1", student) / RECORD).read_text())
    return "\n".join([*record["findings"], *(f for nb in record["notebooks"] for f in nb["findings"])])


def executed(course: Course, student: str) -> nbformat.NotebookNode:
    return nbformat.read(course.path("autograded", "ps1", student) / "warm-up.ipynb", as_version=4)


def descendants(pid: int) -> list[int]:
    """The processes below ``pid``, parents first."""
    found = []
    for task in os.listdir(f"/proc/{pid}/task"):
        for child in Path(f"/proc/{pid}/task/{task}/children").read_text().split():
            found += [int(child), *descendants(int(child))]
    return found


def fork_server() -> int:
    """The outermost process of the newest fork server that this process started."""
    mine = [pid for pid in descendants(os.getpid()) if b"gradekit.kernels.server" in _command(pid)]
    return next(pid for pid in reversed(mine) if _parent(pid) == os.getpid())


def _command(pid: int) -> bytes:
    return Path(f"/proc/{pid}/cmdline").read_bytes()


def _parent(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


@contextmanager
def during(seconds: float, action: object) -> Iterator[None]:
    timer = threading.Timer(seconds, action)  # type: ignore[arg-type]
    timer.start()
    try:
        yield
    finally:
        timer.join()


# -- processes ---------------------------------------------------------------------------------------------------------


def test_a_kernel_that_is_killed_from_outside_costs_nothing(tiny_course: Course, grader: LocalGrader) -> None:
    submit(tiny_course, "a", RIGHT)
    grader.grade(tiny_course, "ps1")  # the server is warm
    submit(tiny_course, "victim", slow(3))
    killed = []

    def kill() -> None:
        killed.append(descendants(fork_server())[-1])
        os.kill(killed[0], signal.SIGKILL)

    with during(1.5, kill):
        result = grader.grade(tiny_course, "ps1")
    assert killed and not result.failed
    assert scores(tiny_course, "victim") == FULL


def test_a_killed_fork_server_costs_nothing(tiny_course: Course) -> None:
    for number in range(4):
        submit(tiny_course, f"s{number}", slow(2))
    with LocalGrader(2) as own, during(6, lambda: os.kill(fork_server(), signal.SIGKILL)):
        result = own.grade(tiny_course, "ps1")
    assert not result.failed
    assert [scores(tiny_course, f"s{number}") for number in range(4)] == [FULL] * 4


def test_two_runs_do_not_write_at_the_same_time(tiny_course: Course, grader: LocalGrader) -> None:
    with only_writer(tiny_course), pytest.raises(CourseError, match="Another run is grading"):
        grader.grade(tiny_course, "ps1")
    grader.grade(tiny_course, "ps1")


# -- memory and disk ---------------------------------------------------------------------------------------------------


def test_running_out_of_memory_costs_the_cell(tiny_course: Course, grader: LocalGrader) -> None:
    eat = "def root(x):\n    return len([b'x' * 2**20 for _ in range(4096)])"
    submit(tiny_course, "hungry", {**RIGHT, "root": eat})
    submit(tiny_course, "neighbour", RIGHT)
    result = grader.grade(tiny_course, "ps1", limits=Limits(memory_bytes=400 * MIB))
    assert not result.failed
    assert scores(tiny_course, "hungry") == {**FULL, "test-root": 0}
    assert scores(tiny_course, "neighbour") == FULL


def test_filling_the_disk_costs_the_cell(tiny_course: Course, grader: LocalGrader) -> None:
    fill = "def root(x):\n    for n in range(100):\n        open(f'/tmp/{n}', 'wb').write(bytes(2**20))"
    submit(tiny_course, "greedy", {**RIGHT, "root": fill})
    submit(tiny_course, "neighbour", RIGHT)
    result = grader.grade(tiny_course, "ps1", limits=Limits(disk_bytes=20 * MIB))
    assert not result.failed
    assert scores(tiny_course, "greedy") == {**FULL, "test-root": 0}
    assert scores(tiny_course, "neighbour") == FULL


@contextmanager
def no_file_larger_than(size: int) -> Iterator[None]:
    """As a full disk: a write beyond ``size`` bytes is an error, in this process and its gradebook."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_disk_that_cannot_take_a_submission_fails_that_one(tiny_course: Course, grader: LocalGrader) -> None:
    submit(tiny_course, "a", RIGHT)
    grader.grade(tiny_course, "ps1")
    large = submit(tiny_course, "large", RIGHT)
    (large / "notes.bin").write_bytes(bytes(3 * MIB))
    submit(tiny_course, "neighbour", RIGHT)
    with no_file_larger_than(2 * MIB):
        result = grader.grade(tiny_course, "ps1")
    assert [submission.student for submission in result.failed] == ["large"]
    assert scores(tiny_course, "neighbour") == FULL
    assert not tiny_course.path("autograded", "ps1", "large").exists()
    assert [s.student for s, _ in grader.grade(tiny_course, "ps1").graded] == ["large"]
    assert scores(tiny_course, "large") == FULL


def test_a_disk_that_cannot_take_the_gradebook_fails_and_halves_nothing(
    tiny_course: Course, grader: LocalGrader
) -> None:
    submit(tiny_course, "a", RIGHT)
    grader.grade(tiny_course, "ps1")
    students = [f"s{number:02}" for number in range(60)]
    for student in students:
        submit(tiny_course, student, RIGHT)
    gradebook_file = tiny_course.root / "gradebook.db"
    with no_file_larger_than(gradebook_file.stat().st_size):
        result = grader.grade(tiny_course, "ps1")
    assert result.failed
    assert "disk" in str(list(result.failed.values()))
    recorded = {student for student in students if tiny_course.path("autograded", "ps1", student).exists()}
    with Gradebook(tiny_course.db_url, tiny_course.course_id) as gradebook:
        rows = {row.student.id for row in gradebook.assignment_submissions("ps1")} - {"a"}
    assert rows == recorded == set(students) - {submission.student for submission in result.failed}
    assert not grader.grade(tiny_course, "ps1").failed
    assert all(scores(tiny_course, student) == FULL for student in students)


# -- files -------------------------------------------------------------------------------------------------------------


def test_a_notebook_of_nearly_100_mb_is_graded_and_a_larger_one_is_zero_with_the_reason(
    tiny_course: Course, grader: LocalGrader
) -> None:
    for student, size in (("large", 95_000_000), ("too-large", 101_000_000)):
        path = submit(tiny_course, student, RIGHT) / "warm-up.ipynb"
        notebook = nbformat.read(path, as_version=4)
        code = next(cell for cell in notebook.cells if cell.cell_type == "code")
        code.outputs = [nbformat.v4.new_output("stream", text="x" * size)]
        path.write_text(json.dumps(notebook))
    submit(tiny_course, "neighbour", RIGHT)
    result = grader.grade(tiny_course, "ps1")
    assert not result.failed
    assert scores(tiny_course, "large") == scores(tiny_course, "neighbour") == FULL
    assert set(scores(tiny_course, "too-large").values()) == {0}
    assert "too large" in findings(tiny_course, "too-large")


def test_folders_and_files_in_each_other_s_place(tiny_course: Course, grader: LocalGrader) -> None:
    folder = submit(tiny_course, "a", RIGHT)
    (folder / RECORD).mkdir()
    (folder / RECORD / "x").write_text("mine")
    (folder / "data" / "numbers.txt").unlink()
    (folder / "data" / "numbers.txt").mkdir()
    (folder / "data" / "numbers.txt" / "x").write_text("mine")
    deep = folder / "/".join(["d" * 200] * 6)
    deep.mkdir(parents=True)
    (deep / "x").write_text("mine")
    (folder / os.fsdecode(b"\xff\xfe.txt")).write_text("mine")
    instead = submit(tiny_course, "b", RIGHT)
    (instead / "warm-up.ipynb").unlink()
    (instead / "warm-up.ipynb").mkdir()
    (instead / "warm-up.ipynb" / "x").write_text("mine")
    result = grader.grade(tiny_course, "ps1")
    assert not result.failed
    assert scores(tiny_course, "a") == FULL
    assert "too deep" in findings(tiny_course, "a")
    assert set(scores(tiny_course, "b").values()) == {0}
    assert len(grader.grade(tiny_course, "ps1").skipped) == 2


def test_200_mutated_notebooks_are_graded_and_their_honest_neighbours_too(
    tiny_course: Course, grader: LocalGrader
) -> None:
    released = json.loads((tiny_course.path("release", "ps1") / "warm-up.ipynb").read_text())
    made: list[bytes] = []

    @settings(max_examples=200, deadline=None, database=None, derandomize=True, suppress_health_check=list(HealthCheck))
    @given(data=st.data())
    def make(data: st.DataObject) -> None:
        made.append(mutated(released, data))

    make()
    for number, content in enumerate(made[:200]):
        (submit(tiny_course, f"m{number:03}") / "warm-up.ipynb").write_bytes(content)
    for student in ("m050-honest", "m150-honest"):
        submit(tiny_course, student, RIGHT)
    result = grader.grade(tiny_course, "ps1")
    assert result.failed == {}
    assert len(result.graded) == 202
    assert scores(tiny_course, "m050-honest") == scores(tiny_course, "m150-honest") == FULL
    for submission, (outcome,) in result.graded:
        assert {v.grade_id for v in outcome.verdicts} == set(FULL), submission
        assert all(v.score is None or 0 <= v.score <= v.points for v in outcome.verdicts), submission
        nbformat.validate(executed(tiny_course, submission.student))


# -- what a later run must notice --------------------------------------------------------------------------------------

PLUGIN = """
from nbgrader.plugins import BasePlugin

class HalfAPointPerHour(BasePlugin):
    def late_submission_penalty(self, student_id, score, total_seconds_late):
        return 0.5 * total_seconds_late / 3600

c.AssignLatePenalties.plugin_class = HalfAPointPerHour
"""


def test_late_penalties_by_a_plugin_follow_the_due_date(tiny_course: Course, grader: LocalGrader) -> None:
    config = tiny_course.root / "nbgrader_config.py"
    config.write_text(config.read_text() + PLUGIN)
    course = Course.open(tiny_course.root)
    submit(course, "late", RIGHT, when="2026-01-01 12:00:00 UTC")
    submit(course, "very-late", RIGHT, when="2026-01-03 10:00:00 UTC")
    submit(course, "in-time", RIGHT, when="2026-01-01 09:00:00 UTC")

    def penalties() -> dict[str, float | None]:
        with Gradebook(course.db_url, course.course_id) as gradebook:
            rows = gradebook.assignment_submissions("ps1")
            return {row.student.id: row.notebooks[0].late_submission_penalty for row in rows}

    def due(when: str) -> None:
        with Gradebook(course.db_url, course.course_id) as gradebook:
            gradebook.update_or_create_assignment("ps1", duedate=parse_utc(when))

    due("2026-01-01 10:00:00 UTC")
    grader.grade(course, "ps1")
    assert penalties() == {"late": 1.0, "very-late": 5.0, "in-time": None}  # at most what the work is worth
    due("2026-01-01 12:00:00 UTC")
    again = grader.grade(course, "ps1")
    assert sorted(submission.student for submission, _ in again.graded) == ["late", "very-late"]
    assert penalties() == {"late": None, "very-late": 5.0, "in-time": None}
    assert not grader.grade(course, "ps1").graded


def test_marks_that_are_not_those_recorded_are_written_again(tiny_course: Course, grader: LocalGrader) -> None:
    """As after an older copy of the gradebook was put back."""
    submit(tiny_course, "a", RIGHT)
    grader.grade(tiny_course, "ps1")
    with Gradebook(tiny_course.db_url, tiny_course.course_id) as gradebook:
        gradebook.find_grade("test-root", "warm-up", "ps1", "a").auto_score = None
        gradebook.db.commit()
    assert len(grader.grade(tiny_course, "ps1").graded) == 1
    assert scores(tiny_course, "a") == FULL


def test_a_folder_that_stock_nbgrader_wrote_is_graded_again(tiny_course: Course, grader: LocalGrader) -> None:
    submit(tiny_course, "a", RIGHT)
    command = [sys.executable, "-m", "nbgrader", "autograde", "ps1"]
    subprocess.run(command, cwd=tiny_course.root, capture_output=True, check=True)
    assert len(grader.grade(tiny_course, "ps1").graded) == 1
    assert len(grader.grade(tiny_course, "ps1").skipped) == 1


def test_files_that_the_course_leaves_to_students_are_not_overwritten(tiny_course: Course, grader: LocalGrader) -> None:
    config = tiny_course.root / "nbgrader_config.py"
    config.write_text(f"{config.read_text()}\nc.Autograde.exclude_overwriting = {{'ps1': ['data/numbers.txt']}}\n")
    course = Course.open(tiny_course.root)
    read = "assert open('data/numbers.txt').read() == 'mine'\n" + RIGHT["square"]
    (submit(course, "a", {**RIGHT, "square": read}) / "data" / "numbers.txt").write_text("mine")
    grader.grade(course, "ps1")
    assert scores(course, "a") == FULL


def test_long_output_is_cut_as_nbgrader_cuts_it(tiny_course: Course, grader: LocalGrader) -> None:
    tiny_course.config.LimitOutput.max_lines = 10
    submit(tiny_course, "a", {**RIGHT, "square": "for i in range(100): print(i)\n" + RIGHT["square"]})
    grader.grade(tiny_course, "ps1")
    printed = [o.text for c in executed(tiny_course, "a").cells for o in c.get("outputs", []) if "text" in o]
    assert len(printed[0].splitlines()) == 10
    assert "truncated" in printed[0]


@pytest.mark.parametrize(
    "structure", ["{assignment_id}/{nbgrader_step}/{student_id}", "work/{nbgrader_step}/{student_id}-{assignment_id}"]
)
def test_other_directory_structures(tiny_course: Course, grader: LocalGrader, structure: str) -> None:
    config = tiny_course.root / "nbgrader_config.py"
    config.write_text(f"{config.read_text()}\nc.CourseDirectory.directory_structure = {structure!r}\n")
    course = Course.open(tiny_course.root)
    for step in ("source", "release"):
        old, new = tiny_course.path(step, "ps1"), course.path(step, "ps1")
        new.parent.mkdir(parents=True, exist_ok=True)
        old.rename(new)
    submit(course, "a b+ü", RIGHT)
    submit(course, "[x]{y}", RIGHT)
    assert course.assignments == ["ps1"]
    assert not grader.grade(course, "ps1").failed
    assert scores(course, "a b+ü") == scores(course, "[x]{y}") == FULL
    assert len(grader.grade(course, "ps1").skipped) == 2


def test_the_log_names_student_notebook_cell_and_cause_and_the_status_says_that_all_were_graded(
    tiny_course: Course,
) -> None:
    submit(tiny_course, "a", {**RIGHT, "square": "def square(x):\n    return 7"})
    command = [sys.executable, "-m", "gradekit.cli", "grade", "--course-dir", str(tiny_course.root)]
    assert subprocess.run(command, capture_output=True, check=False).returncode == 0
    log = (tiny_course.root / ".gradekit.log").read_text()
    assert "a warm-up test-square: failed: AssertionError" in log
    os.mkfifo(tiny_course.path("autograded", "ps1", "b").parent)  # in the way of b's folder
    submit(tiny_course, "b", RIGHT)
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "1 unchanged, 1 failed" in done.stdout


def test_seconds_are_kept_for_each_cell(tiny_course: Course, grader: LocalGrader) -> None:
    submit(tiny_course, "a", slow(0.5))
    start = time.monotonic()
    ((_, (outcome,)),) = grader.grade(tiny_course, "ps1").graded
    wall = time.monotonic() - start
    assert 0.5 <= outcome.seconds["square"] <= outcome.wall_s <= wall
    assert {"imports", "test-square", "root", "test-root"} <= outcome.seconds.keys()
