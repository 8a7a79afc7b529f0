"""Grade an assignment: plan, execute, judge, record, with a bounded number of jobs under way.

Data flows one way. Jobs run wherever a ``Workers`` sends them; only the calling thread touches the gradebook.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, wait
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

from nbgrader.api import Gradebook

from gradekit.course import Course, Submission
from gradekit.gradebook import index
from gradekit.grading.job import Job, Outcome
from gradekit.grading.judge import Status
from gradekit.grading.plan import Planned, Planner
from gradekit.grading.record import Recorder, needs_person, only_writer
from gradekit.kernels import Limits

log = logging.getLogger("gradekit")

#: How often a job is tried on another worker when its worker is lost.
LOST_RETRIES = 2


class Workers(Protocol):
    """Where jobs run: threads of this process, or the workers of a cluster."""

    @property
    def width(self) -> int:
        """Jobs that run at a time, now."""

    @property
    def gpu(self) -> bool:
        """Whether a job that wants a GPU gets one."""

    def submit(self, job: Job) -> Future[Outcome]:
        """Run ``gradekit.grading.execute.execute`` on the job."""


@dataclass
class Graded:
    """What a run did to one assignment.

    Attributes:
        graded: the submissions whose marks were written, with their outcomes less the executed notebooks.
        skipped: those that were graded before and have not changed.
        failed: submission -> why it could not be graded; nothing of it was recorded.
        held: submission -> how many of its cells wait for a person to give points that are held, graded now or before.
        seconds: wall time of the whole run.
    """

    assignment: str
    graded: list[tuple[Submission, list[Outcome]]] = field(default_factory=list)
    skipped: list[Submission] = field(default_factory=list)
    failed: dict[Submission, str] = field(default_factory=dict)
    held: dict[Submission, int] = field(default_factory=dict)
    seconds: float = 0.0

    def summary(self) -> str:
        """One line for a person, and one more for each submission that could not be graded."""
        cells = [v for _, outcomes in self.graded for outcome in outcomes for v in outcome.verdicts]
        reading, elsewhere = sum(needs_person(v) for v in cells), sum(v.status is Status.NOT_HERE for v in cells)
        lines = [
            f"{self.assignment}: {len(self.graded)} graded, {len(self.skipped)} unchanged, {len(self.failed)} failed "
            f"in {self.seconds:.1f} s; {reading - elsewhere} cells wait for a person, {elsewhere} for other hardware"
        ]
        if self.held:
            cells_held = sum(self.held.values())
            lines.append(f"  held until a person gives points: {cells_held} cells of {len(self.held)} submissions")
        lines += [f"  {submission.student}: {why}" for submission, why in self.failed.items()]
        return "\n".join(lines)

    def to_json(self) -> dict[str, Any]:
        """The same, and every verdict, as plain data."""
        return {
            "assignment": self.assignment,
            "seconds": self.seconds,
            "graded": [
                {"student": submission.student, "notebooks": [outcome.to_json() for outcome in outcomes]}
                for submission, outcomes in self.graded
            ],
            "unchanged": [submission.student for submission in self.skipped],
            "held": {submission.student: cells for submission, cells in self.held.items()},
            "failed": {submission.student: why for submission, why in self.failed.items()},
        }


@dataclass
class UnderWay:
    """A submission whose jobs run; ``error`` says why it cannot be graded."""

    planned: Planned
    outcomes: list[Outcome] = field(default_factory=list)
    error: str = ""


def grade(
    course: Course,
    assignment: str,
    workers: Workers,
    *,
    limits: Limits | None = None,
    students: str = "*",
    force: bool = False,
    progress: Callable[[Submission, str], None] = lambda submission, state: None,
) -> Graded:
    """Grade the submissions of an assignment that have no current marks.

    Args:
        students: a glob for student ids.
        force: grade again what is graded already.
        progress: told of each submission that is done: ``graded``, ``skipped`` or ``failed``.

    Raises:
        CourseError: the assignment is unknown or was never generated, or another run is grading this course.
    """
    start = time.monotonic()
    planner = Planner(course, assignment, limits or Limits())
    done = Graded(assignment)
    with only_writer(course) as folder, Gradebook(course.db_url, course.course_id) as gradebook:
        index(gradebook)
        recorder = Recorder(course, gradebook, folder)

        def count_held(submission: Submission) -> None:
            if cells := recorder.held(submission):
                done.held[submission] = cells

        def pending() -> Iterator[Planned]:
            for submission in course.submissions(assignment, students):
                try:
                    planned = planner.plan(submission)
                    current = not force and recorder.is_current(planned, workers.gpu)
                except Exception as error:  # whatever a student's folder provokes stays with that student
                    _fail(done, submission, error, progress)
                    continue
                if current:
                    done.skipped.append(submission)
                    count_held(submission)
                    progress(submission, "skipped")
                else:
                    yield planned

        for under_way in run_jobs(pending(), workers):
            submission = under_way.planned.submission
            if under_way.error:
                _fail(done, submission, RuntimeError(under_way.error), progress)
                continue
            try:
                recorder.record(under_way.planned, under_way.outcomes)
            except Exception as error:
                _fail(done, submission, error, progress)
                continue
            # A class of thousands must not pile up in memory: the executed notebooks lie in the autograded folder.
            done.graded.append((submission, [replace(outcome, notebook="") for outcome in under_way.outcomes]))
            log_outcomes(under_way.planned, under_way.outcomes)
            count_held(submission)
            progress(submission, "graded")
    done.seconds = time.monotonic() - start
    return done


def run_jobs(pending: Iterator[Planned], workers: Workers) -> Iterator[UnderWay]:
    """Run all jobs, a few more in flight than can run, and yield each submission when its last one is back."""
    waiting: dict[Future[Outcome], tuple[UnderWay, Job, int]] = {}

    def submit(under_way: UnderWay, job: Job, tries: int) -> None:
        waiting[workers.submit(job)] = (under_way, job, tries)

    exhausted = False
    while True:
        while not exhausted and len(waiting) < 2 * workers.width:
            planned = next(pending, None)
            if planned is None:
                exhausted = True
                break
            under_way = UnderWay(planned)
            for job in planned.jobs:
                submit(under_way, job, 0)
        if not waiting:
            return
        for future in wait(waiting, return_when=FIRST_COMPLETED).done:
            under_way, job, tries = waiting.pop(future)
            try:
                under_way.outcomes.append(future.result())
            except Exception as error:
                if tries < LOST_RETRIES:
                    log.warning("%s %s: %s; trying again", job.student, job.target.notebook, error)
                    submit(under_way, job, tries + 1)
                    continue
                under_way.error = under_way.error or f"{job.target.notebook}: {type(error).__name__}: {error}"
            if not any(other is under_way for other, _, _ in waiting.values()):
                under_way.outcomes.sort(key=lambda outcome: outcome.name)
                yield under_way


def _fail(done: Graded, submission: Submission, error: Exception, progress: Callable[[Submission, str], None]) -> None:
    done.failed[submission] = str(error)
    log.error("%s %s: not graded: %s", submission.student, submission.assignment, error)
    log.debug("where it was raised", exc_info=error)
    progress(submission, "failed")


def log_outcomes(planned: Planned, outcomes: list[Outcome]) -> None:
    """One line for each thing that a person may ask about: student, notebook, cell, cause."""
    student = planned.submission.student
    for finding in planned.findings:
        log.warning("%s %s: %s", student, planned.submission.assignment, finding)
    for outcome in outcomes:
        for finding in outcome.findings:
            log.warning("%s %s: %s", student, outcome.name, finding)
        for one in outcome.evidence:
            level = logging.WARNING if one.holds else logging.INFO
            log.log(level, "%s %s %s: %s: %s", student, outcome.name, one.cell, one.kind, one.what)
        for verdict in outcome.verdicts:
            if verdict.reason:
                log.info("%s %s %s: %s: %s", student, outcome.name, verdict.grade_id, verdict.status, verdict.reason)
