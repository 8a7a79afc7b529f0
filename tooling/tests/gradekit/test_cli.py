"""The commands as a user types them, with bad input above all: one clear line, what to do, nothing lost."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from gradekit.course import Course
from tinycourse import RIGHT, scores, submit

ROOT = Path(__file__).parents[3]


def run(folder: Path, *arguments: str, status: int = 0) -> tuple[str, str]:
    """stdout and stderr of ``gradekit`` run in a folder."""
    command = [sys.executable, "-m", "gradekit.cli", *arguments]
    environment = {**os.environ, "COLUMNS": "200"}
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == status, done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    return done.stdout, done.stderr


@pytest.mark.parametrize("command", [["sync"], ["grade"], ["feedback"], ["demo"]])
def test_a_folder_that_is_no_course(tmp_path: Path, command: list[str]) -> None:
    _, said = run(tmp_path, *command, status=2)
    assert "is not a course" in said
    assert "--course-dir" in said


@pytest.mark.parametrize("command", ["grade", "feedback"])
def test_an_assignment_that_does_not_exist(tiny_course: Course, command: str) -> None:
    _, said = run(tiny_course.root, command, "ps9", status=2)
    assert "There is no assignment 'ps9'" in said
    assert "There are: ps1." in said


def test_an_assignment_that_was_never_generated(tiny_course: Course) -> None:
    shutil.copytree(tiny_course.path("source", "ps1"), tiny_course.path("source", "ps2"))
    _, said = run(tiny_course.root, "grade", "ps2", status=2)
    assert "nbgrader generate_assignment ps2" in said


def test_feedback_before_grading(tiny_course: Course) -> None:
    submit(tiny_course, "a", RIGHT)
    _, said = run(tiny_course.root, "feedback", "ps1", status=2)
    assert "gradekit grade ps1" in said


def test_sync_names_what_it_did_and_refuses_what_it_cannot(tiny_course: Course) -> None:
    text = tiny_course.path("source", "ps1") / "warm-up.py"
    assert "in sync" in run(tiny_course.root, "sync", "--check")[0]
    text.write_text(text.read_text().replace("x * x", "x ** 2"))
    assert "would be: text changed" in run(tiny_course.root, "sync", "--check", status=1)[0]
    assert "text changed: notebook written" in run(tiny_course.root, "sync")[0]
    assert "There are: warm-up." in run(tiny_course.root, "sync", "nothing", status=2)[1]
    assert "name the lab" in run(tiny_course.root, "sync", "--keep", "text", status=2)[1]
    assert "'text' or 'notebook'" in run(tiny_course.root, "sync", "--keep", "both", "warm-up", status=2)[1]


def test_grade_feedback_and_their_exit_status(tiny_course: Course) -> None:
    submit(tiny_course, "good", RIGHT)
    (submit(tiny_course, "broken") / "warm-up.ipynb").write_text("{")
    out, said = run(tiny_course.root, "grade", "ps1")
    assert "2 graded, 0 unchanged, 0 failed" in out
    assert "broken" in said and "not JSON" in said
    assert scores(tiny_course, "good")["test-root"] == 3
    out, _ = run(tiny_course.root, "grade", "--json")
    assert json.loads(out)[0]["unchanged"] == ["broken", "good"]
    out, _ = run(tiny_course.root, "feedback")
    assert "feedback written for 2" in out
    page = tiny_course.path("feedback", "ps1", "good") / "warm-up.html"
    assert "warm-up" in page.read_text()
    out, _ = run(tiny_course.root, "feedback")
    assert "written for 0, current for 2" in out


def test_status_lists_the_whole_syllabus() -> None:
    rows = json.loads(run(ROOT, "status", "--json")[0])
    assert len(rows) == 150
    written = {row["lab"] for row in rows if row["status"] == "written"}
    assert {"1.3.1", "3.1.1"} <= written
    assert "150 labs" in run(ROOT, "status")[0]


def test_status_says_what_is_wrong_with_a_syllabus(tmp_path: Path) -> None:
    (tmp_path / "syllabus.yaml").write_text("modules: [")
    assert "syllabus.yaml" in run(tmp_path, "status", status=2)[1]


def test_doctor_names_each_thing_once_and_what_to_do(tiny_course: Course) -> None:
    config = tiny_course.root / "nbgrader_config.py"
    config.write_text(config.read_text() + 'c.Exchange.root = "/proc/exchange"\n')
    report = json.loads(run(tiny_course.root, "doctor", "--json", status=1)[0])
    checks = {check["name"]: check for check in report["checks"]}
    assert not report["ready"]
    assert checks["exchange"]["status"] == "error"
    assert "NBGRADER_EXCHANGE" in checks["exchange"]["todo"]
    named = "Python", "packages", "JupyterLab", "GPU", "CUDA simulator", "memory", "disk", "sandbox", "gradebook"
    assert set(named) <= set(checks)
    assert checks["JupyterLab"]["status"] == "ok"
    assert "failed" not in checks["sandbox"]["detail"]


def test_doctor_compares_packages_with_the_constraints(tiny_course: Course) -> None:
    (tiny_course.root / "constraints.txt").write_text("numpy==0.0.1\nno-such-package==1\n# comment\n")
    report = json.loads(run(tiny_course.root, "doctor", "--json")[0])
    packages = next(check for check in report["checks"] if check["name"] == "packages")
    assert packages["status"] == "warning"
    assert "numpy" in packages["detail"] and "not 0.0.1" in packages["detail"]


@pytest.mark.parametrize("target", ["release", "grade", "feedback"])
def test_make_asks_for_the_assignment(target: str) -> None:
    done = subprocess.run(["make", "-C", str(ROOT), target], capture_output=True, text=True, check=False)
    assert done.returncode != 0
    assert "name the assignment" in done.stderr


def test_make_help_lists_every_target() -> None:
    done = subprocess.run(["make", "-C", str(ROOT), "help"], capture_output=True, text=True, check=True)
    for target in ("course", "test", "release", "grade", "feedback", "formgrader", "doctor", "clean"):
        assert f"make {target}" in done.stdout


@pytest.mark.parametrize(
    ("tools", "word"),
    [({"python3": "exit 1"}, "no Python 3.11 or later"), ({"df": "printf 'h\\nx 1 1 7 1 /\\n'"}, "only 7 MB free")],
)
def test_the_installer_says_what_is_missing(tmp_path: Path, tools: dict[str, str], word: str) -> None:
    """A PATH with nothing but the basic tools, and stand-ins for what the case is about."""
    bin_ = tmp_path / "bin"
    bin_.mkdir()
    for name in ("sh", "env", "printf", "awk", "df", "rm", "echo"):
        found = shutil.which(name)
        if found:
            (bin_ / name).symlink_to(found)
    (bin_ / "python3").symlink_to(sys.executable)
    for name, body in tools.items():
        (bin_ / name).unlink(missing_ok=True)
        (bin_ / name).write_text(f"#!/bin/sh\n{body}\n")
        (bin_ / name).chmod(0o755)
    done = subprocess.run(
        ["/bin/sh", str(ROOT / "tooling" / "bootstrap.sh"), str(tmp_path / "venv"), "dev"],
        cwd=tmp_path,
        env={"PATH": str(bin_)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert word in done.stderr
    assert not (tmp_path / "venv").exists()


def test_one_submission_without_its_secret_does_not_keep_the_others_feedback_back(tiny_course: Course) -> None:
    submit(tiny_course, "good", RIGHT)
    (submit(tiny_course, "odd", RIGHT) / "submission_secret.txt").unlink()
    run(tiny_course.root, "grade")
    out, said = run(tiny_course.root, "feedback", status=1)
    assert "written for 1" in out
    assert "odd: written, but not released" in said
    assert len(list((tiny_course.exchange / "tiny" / "feedback").glob("*.html"))) == 1
