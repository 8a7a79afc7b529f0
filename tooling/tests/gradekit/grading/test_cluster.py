"""The same marks from a Dask cluster whose workers share nothing with the grader, and lose one on the way."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator

import nbformat
import pytest
from distributed import LocalCluster
from gradekit.course import Course, CourseError
from gradekit.grading import cluster
from gradekit.grading.cluster import ClusterGrader
from nbgrader.api import Gradebook
from tinycourse import RIGHT, scores, submit

FULL = {"test-square": 2, "test-root": 3, "reflect": None}


@pytest.fixture(scope="module")
def two_workers() -> Iterator[LocalCluster]:
    with LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=":0") as made:
        yield made


def slow(seconds: float) -> dict[str, str]:
    return {**RIGHT, "square": f"import time\ntime.sleep({seconds})\n{RIGHT['square']}"}


def test_a_cluster_gives_the_marks_that_this_machine_gives(tiny_course: Course, two_workers: LocalCluster) -> None:
    submit(tiny_course, "right", RIGHT)
    submit(tiny_course, "untouched")
    submit(tiny_course, "fatal", {**RIGHT, "root": "def root(x):\n    import os\n    os._exit(1)"})
    read = "from pathlib import Path\nassert Path('data/numbers.txt').read_text() == '1 2 3\\n'\n" + RIGHT["square"]
    submit(tiny_course, "reader", {**RIGHT, "square": read})
    with ClusterGrader(two_workers.scheduler_address) as grader:
        assert (grader.width, grader.gpu) == (2, False)
        assert not grader.grade(tiny_course, "ps1").failed
    assert scores(tiny_course, "right") == scores(tiny_course, "reader") == FULL
    assert scores(tiny_course, "untouched") == {"test-square": 0, "test-root": 0, "reflect": 0}
    assert scores(tiny_course, "fatal") == {**FULL, "test-root": 0}


def test_a_killed_worker_s_jobs_run_on_another(tiny_course: Course, two_workers: LocalCluster) -> None:
    students = [f"s{number}" for number in range(6)]
    for student in students:
        submit(tiny_course, student, slow(1.5))
    with ClusterGrader(two_workers.scheduler_address) as grader:
        victim = next(iter(two_workers.workers.values()))
        threading.Timer(2.5, lambda: os.kill(victim.pid, signal.SIGKILL)).start()
        result = grader.grade(tiny_course, "ps1")
    assert not result.failed
    assert [scores(tiny_course, student) for student in students] == [FULL] * len(students)
    with Gradebook(tiny_course.db_url, tiny_course.course_id) as gradebook:
        assert len(gradebook.assignment_submissions("ps1")) == len(students)


def test_a_run_leaves_nothing_on_the_workers(tiny_course: Course, two_workers: LocalCluster) -> None:
    submit(tiny_course, "right", RIGHT)
    with ClusterGrader(two_workers.scheduler_address) as grader:
        grader.grade(tiny_course, "ps1")
        assert sum(map(_servers, _workers(two_workers))) >= 1
    deadline = time.monotonic() + 10
    while any(map(_servers, _workers(two_workers))) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not any(map(_servers, _workers(two_workers)))


def test_jobs_that_want_a_gpu_go_to_workers_that_have_one(
    tiny_course: Course, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = tiny_course.path("source", "ps1") / "warm-up.ipynb"
    notebook = nbformat.read(source, as_version=4)
    notebook.metadata["gradekit"] = {"gpu": True}
    nbformat.write(notebook, source)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "7")  # in the workers: they are started below
    submit(tiny_course, "right", RIGHT)
    with (
        LocalCluster(n_workers=1, threads_per_worker=1, dashboard_address=":0", resources={"GPU": 1}) as made,
        ClusterGrader(made.scheduler_address) as grader,
    ):
        assert grader.gpu
        result = grader.grade(tiny_course, "ps1")
    ((_, (outcome,)),) = result.graded
    assert outcome.gpu == "7"


def test_a_worker_of_another_version_is_refused_by_name(
    two_workers: LocalCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = cluster.versions()
    monkeypatch.setattr(cluster, "versions", lambda: {**real, "gradekit": "99"})
    with pytest.raises(CourseError, match=f"has gradekit {real['gradekit']}, not 99.*Install the same"):
        ClusterGrader(two_workers.scheduler_address).__enter__()


def test_where_no_scheduler_answers_the_command_says_so(tiny_course: Course) -> None:
    command = [sys.executable, "-m", "gradekit.cli", "grade", "--course-dir", str(tiny_course.root)]
    command += ["--cluster", "tcp://127.0.0.1:1"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "No Dask scheduler answers at tcp://127.0.0.1:1" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_scheduler_without_workers_is_not_waited_for_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cluster, "WORKERS_S", 0.5)
    with (
        LocalCluster(n_workers=0, dashboard_address=":0") as empty,
        pytest.raises(CourseError, match="has no workers"),
    ):
        ClusterGrader(empty.scheduler_address).__enter__()


def test_a_scheduler_that_dies_ends_the_run_with_a_word_and_keeps_what_was_graded(tiny_course: Course) -> None:
    for number in range(4):
        submit(tiny_course, f"s{number}", slow(2))
    made = LocalCluster(n_workers=1, threads_per_worker=1, dashboard_address=":0")
    with ClusterGrader(made.scheduler_address) as grader:
        threading.Timer(4, made.close).start()
        with pytest.raises(CourseError, match=r"is gone.*the same command goes on"):
            grader.grade(tiny_course, "ps1")


def _workers(made: LocalCluster) -> list[int]:
    return [worker.pid for worker in made.workers.values()]


def _servers(worker: int) -> int:
    """Fork servers among a worker's children: the outermost process runs as ``gradekit.kernels.server``."""
    found = 0
    for task in os.listdir(f"/proc/{worker}/task"):
        with open(f"/proc/{worker}/task/{task}/children") as children:
            for child in children.read().split():
                with open(f"/proc/{child}/cmdline") as command:
                    found += "gradekit.kernels.server" in command.read()
    return found
