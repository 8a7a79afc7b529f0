"""Students' feedback: generated for what was graded since the last time, and released."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path

from nbgrader.apps.api import NbGraderAPI

from gradekit.course import Course, CourseError, Submission

log = logging.getLogger("gradekit")


@dataclass(frozen=True)
class Feedback:
    """What became of the feedback of one submission; ``error`` is empty when it was written or still current."""

    submission: Submission
    written: bool
    error: str = ""


def give_feedback(course: Course, assignment: str, students: str = "*", *, force: bool = False) -> list[Feedback]:
    """Write and release the feedback of every graded submission whose feedback is older than its marks.

    Raises:
        CourseError: the assignment is unknown, or nothing of it is graded, or the release failed.
    """
    course.require(assignment)
    api = NbGraderAPI(course.directory, config=course.config)
    api.log_level = logging.ERROR
    results = []
    for submission in course.submissions(assignment, students):
        graded = _times(course.path("autograded", assignment, submission.student), "*.ipynb")
        if not graded:
            results.append(Feedback(submission, False, "no graded notebook to write about"))
            continue
        pages = _times(course.path("feedback", assignment, submission.student), "*.html")
        if not force and len(pages) == len(graded) and min(pages) >= max(graded):
            results.append(Feedback(submission, False))
            continue
        done = api.generate_feedback(assignment, submission.student, force=True)
        results.append(Feedback(submission, done["success"], "" if done["success"] else _last_line(done)))
    if not any(not result.error for result in results):
        raise CourseError(f"No submission of '{assignment}' is graded yet. Run `gradekit grade {assignment}` first.")
    if any(result.written for result in results):
        released = api.release_feedback(assignment)
        if not released["success"]:
            raise CourseError(f"The feedback was written, but not released: {_last_line(released)}")
    return results


def _times(folder: Path, pattern: str) -> list[float]:
    return [path.stat().st_mtime for path in folder.glob(pattern)]


def _last_line(done: dict) -> str:
    lines = [line for line in str(done.get("log") or done.get("error") or "").splitlines() if line.strip()]
    return lines[-1] if lines else "nbgrader gave no reason"
