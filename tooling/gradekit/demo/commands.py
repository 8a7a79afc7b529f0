"""nbgrader's commands, each in a process of its own, as the instructor or as a student."""

from __future__ import annotations

import multiprocessing
import os
import re
import shutil
import sys
import tempfile
import traceback
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from gradekit.course import Course, CourseError


@dataclass(frozen=True)
class Student:
    """A user: a home with nbgrader's configuration in it, and the folder that they work in."""

    name: str
    home: Path

    @classmethod
    def enrol(cls, course: Course, name: str) -> Student:
        """Make the home. The exchange, the course's id and the name are all that a student configures."""
        home = course.root / ".demo" / name
        config = home / ".jupyter" / "nbgrader_config.py"
        config.parent.mkdir(parents=True, exist_ok=True)
        (home / "work").mkdir(exist_ok=True)
        config.write_text(
            "c = get_config()\n"
            f"c.CourseDirectory.course_id = {course.course_id!r}\n"
            f"c.CourseDirectory.student_id = {name!r}\n"
            f"c.Exchange.root = {str(course.exchange)!r}\n"
        )
        return cls(name, home)

    @property
    def work(self) -> Path:
        return self.home / "work"

    def run(self, *command: str) -> None:
        """Run an nbgrader command as this student would, in their folder and with nothing of the instructor's."""
        keep = ("PATH", "LANG", "LC_ALL", "VIRTUAL_ENV", "TMPDIR")
        env = {key: os.environ[key] for key in keep if key in os.environ} | {"HOME": str(self.home), "USER": self.name}
        run_nbgrader(*command, cwd=self.work, env=env)

    def fetch(self, assignment: str) -> None:
        shutil.rmtree(self.work / assignment, ignore_errors=True)
        self.run("fetch_assignment", assignment)

    def submit(self, assignment: str) -> None:
        self.run("submit", assignment)


def run_nbgrader(*command: str, cwd: Path, env: dict[str, str] | None = None) -> None:
    """Run ``nbgrader <command>`` in a process of its own.

    Raises:
        CourseError: it failed; the message names the cause that it logged.
    """
    status, log = _commands().submit(_command, command, cwd, env).result()
    if status != 0:
        raise CourseError(f"nbgrader {' '.join(command)}: {_cause(log)}")


@cache
def _commands() -> ProcessPoolExecutor:
    """Where nbgrader's commands run: forks of a process that has imported nbgrader, which takes 2 s each time."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["nbgrader.apps.nbgraderapp"])
    return ProcessPoolExecutor(os.cpu_count(), mp_context=context, max_tasks_per_child=1)


def _command(command: tuple[str, ...], cwd: Path, env: dict[str, str] | None) -> tuple[int, str]:
    """What ``nbgrader <command>`` does, in this process: its exit status and its log."""
    from nbgrader.apps.nbgraderapp import NbGraderApp

    os.chdir(cwd)
    if env is not None:
        os.environ.clear()
        os.environ.update(env)
    with tempfile.TemporaryFile("w+") as log:
        os.dup2(log.fileno(), 1)
        os.dup2(log.fileno(), 2)
        try:
            NbGraderApp.launch_instance(argv=list(command))
            status = 0
        except SystemExit as end:
            status = end.code if isinstance(end.code, int) else int(end.code is not None)
        except BaseException:  # what the command would have shown as a traceback
            traceback.print_exc()
            status = 1
        sys.stdout.flush()
        sys.stderr.flush()
        log.seek(0)
        return status, log.read()


def _cause(log: str) -> str:
    """The line of nbgrader's log that names the cause: the exception's own, else the errors."""
    raised = re.findall(r"^\s*(?:[\w.]+\.)?(?:\w*(?:Error|Exception|Entry)): (.+)$", log, re.MULTILINE)
    if any("Cannot add or remove cells" in line for line in raised):
        return f"{raised[-1]}. To start over with a demo's class: make clean, then make."
    logged = re.findall(r"\| (?:ERROR|CRITICAL)\] (.+)$", log, re.MULTILINE)
    return (raised or logged or [log.strip()[-300:] or "it failed without a word"])[-1]
