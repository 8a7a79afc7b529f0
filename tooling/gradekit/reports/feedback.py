"""Students' feedback: generated for what was graded since the last time, and released."""

from __future__ import annotations

import logging
import multiprocessing
import os
from collections.abc import Iterator
from concurrent.futures import Executor, ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from nbgrader.apps.api import NbGraderAPI

from gradekit.course import Course, CourseError, Submission
from gradekit.grading.plan import RECORD

#: Below this many pages, starting processes (2 s of imports each) costs more than they save (1 s a page).
WORTH_PROCESSES = 6


@dataclass(frozen=True)
class Feedback:
    """What became of the feedback of one submission; ``error`` is empty when it was written or still current."""

    submission: Submission
    written: bool
    error: str = ""


def give_feedback(course: Course, assignment: str, students: str = "*", *, force: bool = False) -> list[Feedback]:
    """Write and release the feedback of every graded submission whose feedback is older than its marks.

    Raises:
        CourseError: the assignment is unknown, or nothing of it is graded.
    """
    course.require(assignment)
    results, stale = [], []
    for submission in course.submissions(assignment, students):
        graded = _times(course.path("autograded", assignment, submission.student), "*.ipynb")
        pages = _times(course.path("feedback", assignment, submission.student), "*.html")
        if not graded:
            results.append(Feedback(submission, False, "no graded notebook to write about"))
        elif not force and len(pages) == len(graded) and min(pages) >= max(graded):
            results.append(Feedback(submission, False))
        else:
            stale.append(submission)
    api = NbGraderAPI(course.directory, config=course.config)
    with _pool(len(stale)) as pool:
        wanted = [(str(course.root), assignment, submission.student) for submission in stale]
        for submission, error in zip(stale, pool.map(_generate, wanted), strict=True):
            # One by one: a submission that lacks its secret must not keep the others' feedback back.
            error = error or _error(api.release_feedback(assignment, submission.student), "written, but not released: ")
            results.append(Feedback(submission, not error, error))
    if not any(not result.error for result in results):
        raise CourseError(f"No submission of '{assignment}' is graded yet. Run `gradekit grade {assignment}` first.")
    return sorted(results, key=lambda result: result.submission.student)


@contextmanager
def _pool(pages: int) -> Iterator[Executor]:
    if pages < WORTH_PROCESSES:
        pool: Executor = ThreadPoolExecutor(1)
    else:
        pool = ProcessPoolExecutor(os.cpu_count(), mp_context=multiprocessing.get_context("spawn"))
    with pool:
        yield pool


def _generate(wanted: tuple[str, str, str]) -> str:
    """Write one student's feedback; returns what went wrong, or nothing. Runs in a process of its own."""
    root, assignment, student = wanted
    course = Course.open(Path(root))
    config = course.config.copy()
    config["GenerateFeedback"]["exporter_class"] = "gradekit.reports.page.FeedbackExporter"
    course.directory.ignore = [*course.directory.ignore, RECORD]  # what was found is for staff
    api = NbGraderAPI(course.directory, config=config)
    api.log_level = logging.ERROR
    return _error(api.generate_feedback(assignment, student, force=True))


def _times(folder: Path, pattern: str) -> list[float]:
    return [path.stat().st_mtime for path in folder.glob(pattern)]


def _error(done: dict, prefix: str = "") -> str:
    """What one of nbgrader's API calls says went wrong, in a line; nothing when it succeeded."""
    if done["success"]:
        return ""
    lines = [line for line in str(done.get("log") or done.get("error") or "").splitlines() if line.strip()]
    return prefix + (lines[-1] if lines else "nbgrader gave no reason")
