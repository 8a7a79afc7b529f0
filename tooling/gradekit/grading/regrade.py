"""Grade again after a test was mended: the new tests go into the gradebook, and no mark goes down unless told to.

What would go down keeps its points in the place of a person's (``Recorder.record``), so that the formgrader, nbgrader's
own autograder and a later grading all leave them. A run that ends early leaves whole submissions behind, each graded
with the old tests or the new; the next run goes on with the rest.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from nbgrader.api import Assignment as AssignmentRow
from nbgrader.api import BaseCell, Grade, Gradebook, Notebook, SubmittedAssignment
from sqlalchemy.orm import undefer

from gradekit.course import Course, CourseError, Submission
from gradekit.gradebook import over_marks
from gradekit.grading.job import Outcome
from gradekit.grading.judge import Status
from gradekit.grading.plan import Planned, Planner
from gradekit.grading.record import Recorder, is_kept, one_transaction, only_writer, patiently, read_record
from gradekit.grading.revise import Revision, revise, take_in
from gradekit.grading.run import Workers, log_outcomes, run_jobs
from gradekit.kernels import Limits

log = logging.getLogger("gradekit")

Question = tuple[str, str]  # notebook, grade id


@dataclass(frozen=True)
class Change:
    """A question of one student before and after.

    Attributes:
        before, after: the points in the gradebook; None where there are none, or no such question.
        now: the points by the tests as they are now; None when only a person can give them.
        kept: whether the points stand though the tests would give fewer.
        by_person: whether the points are a person's.
        note: what else a person should know.
    """

    notebook: str
    question: str
    before: float | None
    after: float | None
    now: float | None
    points: float
    kept: bool
    by_person: bool
    note: str = ""

    @property
    def shown(self) -> bool:
        """Whether there is something to tell."""
        return self.before != self.after or self.kept or bool(self.note)


@dataclass(frozen=True)
class Regraded:
    """One student: points of the assignment less late penalties, and every question that was graded again."""

    student: str
    before: float | None
    after: float
    questions: tuple[Change, ...]

    @property
    def changes(self) -> list[Change]:
        return [change for change in self.questions if change.shown]


@dataclass
class Regrading:
    """What a run did, or with ``dry_run`` would do, to one assignment.

    Attributes:
        revision: what is new in the source.
        unchanged: students graded already with these tests.
        failed: student -> why not graded; the old marks stand.
    """

    assignment: str
    revision: Revision
    lower: bool
    dry_run: bool
    students: list[Regraded] = field(default_factory=list)
    unchanged: list[str] = field(default_factory=list)
    failed: dict[str, str] = field(default_factory=dict)
    seconds: float = 0.0

    def to_json(self) -> dict[str, Any]:
        """The same as plain data, every question of every student."""
        students = [
            {"student": one.student, "before": one.before, "after": one.after,
             "questions": [asdict(change) for change in one.questions]}
            for one in self.students
        ]  # fmt: skip
        return {
            "assignment": self.assignment,
            "dry_run": self.dry_run,
            "lower": self.lower,
            "cells": list(self.revision.changes),
            "losses": list(self.revision.losses),
            "students": students,
            "unchanged": self.unchanged,
            "failed": self.failed,
            "seconds": self.seconds,
        }


@dataclass(frozen=True)
class _Standing:
    """Where a student stands: the points of each question and what it is worth, and their sum less late penalties.

    Attributes:
        kept: the questions whose points an earlier grading gave.
        by_person: those whose points a person gave.
    """

    scores: Mapping[Question, float | None] = field(default_factory=dict)
    points: Mapping[Question, float] = field(default_factory=dict)
    kept: frozenset[Question] = frozenset()
    by_person: frozenset[Question] = frozenset()
    total: float = 0.0


def regrade(
    course: Course,
    assignment: str,
    workers: Workers,
    *,
    limits: Limits | None = None,
    students: str = "*",
    notebooks: Collection[str] = (),
    lower: bool = False,
    dry_run: bool = False,
    progress: Callable[[Submission, str], None] = lambda submission, state: None,
) -> Regrading:
    """Take what changed in an assignment's source into the gradebook, and grade its submissions again.

    Args:
        students: a glob for student ids; the others keep their marks until they are regraded.
        notebooks: only these; the others keep cells and marks.
        lower: let marks go down, and drop cells that are gone with the marks in them.
        dry_run: write nothing.
        progress: told of each submission that is done: ``graded``, ``skipped`` or ``failed``.

    Raises:
        CourseError: the assignment, notebook or student is unknown, another run is grading this course, or cells are
            gone that hold marks, comments or answers, and neither ``lower`` nor ``dry_run`` is set.
    """
    start, limits = time.monotonic(), limits or Limits()
    course.require(assignment)
    submissions = course.submissions(assignment, students)
    if not submissions:
        known = ", ".join(submission.student for submission in course.submissions(assignment)) or "none yet"
        raise CourseError(f"No student who matches '{students}' has handed in '{assignment}'. Collected: {known}.")
    with only_writer(course) as folder, Gradebook(course.db_url, course.course_id) as gradebook:
        revision = revise(course, assignment, gradebook, notebooks)
        if revision.losses and not lower and not dry_run:
            raise CourseError(
                f"Cells of '{assignment}' are gone from the source, and with them would go:\n  "
                + "\n  ".join(revision.losses)
                + "\nGive them back their names, or drop them with --lower. Nothing was written."
            )
        done = Regrading(assignment, revision, lower, dry_run)
        run = _Run(
            course, assignment, submissions, limits, revision, Recorder(course, gradebook, folder), done, progress
        )
        before = run.standings(run.kept(), revision.renamed)
        if not dry_run:
            run.protect(course.submissions(assignment))
            patiently(run.take_in)
        results = run.grade(workers, record=not dry_run)
        after = patiently(lambda: run.previewed(results)) if dry_run else run.standings(run.kept())
        for planned, outcomes in sorted(results, key=lambda result: result[0].submission.student):
            student = planned.submission.student
            done.students.append(_regraded(student, outcomes, before.get(student), after[student]))
    done.unchanged.sort()
    done.seconds = time.monotonic() - start
    return done


class _Undo(Exception):
    """Ends a transaction whose effect was only to be seen."""


@dataclass
class _Run:
    course: Course
    assignment: str
    submissions: Collection[Submission]
    limits: Limits
    revision: Revision
    recorder: Recorder
    done: Regrading
    progress: Callable[[Submission, str], None]

    def __post_init__(self) -> None:
        self.old = Planner(self.course, self.assignment, self.limits)
        self.new = Planner(self.course, self.assignment, self.limits, self.revision.targets)

    def take_in(self) -> None:
        with one_transaction(self.recorder.gradebook):
            take_in(self.recorder.gradebook, self.revision)

    def protect(self, submissions: Collection[Submission]) -> None:
        """Whatever ends this run, or is not part of it: plain grading lowers none of the marks given so far."""
        if self.done.lower:
            return
        for submission in submissions:
            try:
                planned = self.new.plan(submission)
                if not self.recorder.is_current(planned, gpu=False):
                    self.recorder.protect(planned)
            except Exception as error:  # whatever a student's folder provokes stays with that student
                log.warning("%s %s: its folder cannot be read: %s", submission.student, self.assignment, error)

    def grade(self, workers: Workers, *, record: bool) -> list[tuple[Planned, list[Outcome]]]:
        results = []
        whole: dict[str, Planned] = {}
        for under_way in run_jobs(self._pending(workers, whole), workers):
            submission, outcomes = under_way.planned.submission, under_way.outcomes
            planned = whole.pop(submission.student)
            try:
                if under_way.error:
                    raise RuntimeError(under_way.error)
                if record:
                    self.recorder.record(planned, outcomes, lower=self.done.lower)
            except Exception as error:
                self._fail(submission, error)
                continue
            log_outcomes(planned, outcomes)
            results.append((planned, [replace(outcome, notebook="") for outcome in outcomes]))
            self.progress(submission, "graded")
        return results

    def _pending(self, workers: Workers, whole: dict[str, Planned]) -> Iterator[Planned]:
        for submission in self.submissions:
            try:
                planned = self.new.plan(submission)
                recorded = read_record(self.course.path("autograded", self.assignment, submission.student)) or {}
                to_lower = self.done.lower and bool(recorded.get("kept"))
                if not to_lower and self.recorder.is_current(planned, workers.gpu):
                    self.done.unchanged.append(submission.student)
                    self.progress(submission, "skipped")
                    continue
                rest = [t.notebook for t in self.revision.targets if t.notebook not in self.revision.notebooks]
                if rest and recorded.get("fingerprint") != self.old.plan(submission).fingerprint:
                    planned = replace(planned, fingerprint="")  # its other notebooks are still to be graded
            except Exception as error:
                self._fail(submission, error)
                continue
            whole[submission.student] = planned
            jobs = tuple(job for job in planned.jobs if job.target.notebook in self.revision.notebooks)
            yield replace(planned, jobs=jobs)

    def previewed(self, results: Collection[tuple[Planned, list[Outcome]]]) -> dict[str, _Standing]:
        """Where everybody would stand: all is written, looked at and taken back."""
        gradebook = self.recorder.gradebook
        gradebook.db.expire_all()
        kept = self.kept()
        try:
            with one_transaction(gradebook):
                take_in(gradebook, self.revision)
                for planned, outcomes in results:
                    _, kept[planned.submission.student] = self.recorder.write_rows(planned, outcomes, self.done.lower)
                gradebook.db.flush()
                after = self.standings(kept)
                raise _Undo
        except _Undo:
            return after

    def kept(self) -> dict[str, Mapping[str, float]]:
        """Student -> grade row -> points kept from an earlier grading, as recorded now."""
        folders = {s.student: self.course.path("autograded", self.assignment, s.student) for s in self.submissions}
        return {student: (read_record(folder) or {}).get("kept", {}) for student, folder in folders.items()}

    def standings(
        self, kept: Mapping[str, Mapping[str, float]], renamed: Mapping[str, Mapping[str, str]] | None = None
    ) -> dict[str, _Standing]:
        """Where each student stands now, by the names that the questions have in the source.

        Args:
            renamed: notebook -> name in the gradebook -> name in the source.
        """
        gradebook = self.recorder.gradebook
        gradebook.db.expire_all()
        marks = (
            over_marks(SubmittedAssignment.student_id, Notebook.name, BaseCell.name, Grade)
            .join(BaseCell, BaseCell.id == Grade.cell_id)
            .options(undefer(Grade.max_score))
            .where(AssignmentRow.name == self.assignment)
        )
        rows: dict[str, dict[Question, Grade]] = {}
        for student, notebook, cell, grade in gradebook.db.execute(marks):
            rows.setdefault(student, {})[notebook, (renamed or {}).get(notebook, {}).get(cell, cell)] = grade
        penalties = {
            row.student_id: row.late_submission_penalty or 0.0
            for row in gradebook.assignment_submissions(self.assignment)
        }
        standings = {}
        for student, graded in rows.items():
            ours = {question for question, grade in graded.items() if is_kept(grade, kept.get(student, {}))}
            manual = {question for question, grade in graded.items() if grade.manual_score is not None}
            standings[student] = _Standing(
                {q: None if g.auto_score is None and g.manual_score is None else g.score for q, g in graded.items()},
                {question: grade.max_score for question, grade in graded.items()},
                frozenset(ours),
                frozenset(manual - ours),
                sum(grade.score for grade in graded.values()) - penalties.get(student, 0.0),
            )
        return standings

    def _fail(self, submission: Submission, error: Exception) -> None:
        self.done.failed[submission.student] = str(error)
        log.error("%s %s: not graded, the old marks stand: %s", submission.student, submission.assignment, error)
        log.debug("where it was raised", exc_info=error)
        self.progress(submission, "failed")


def _regraded(student: str, outcomes: Collection[Outcome], old: _Standing | None, new: _Standing) -> Regraded:
    before = old or _Standing()
    changes = []
    for outcome in outcomes:
        for verdict in outcome.verdicts:
            question = (outcome.name, verdict.grade_id)
            kept, by_person = question in new.kept, question in new.by_person
            has, worth = new.scores.get(question), before.points.get(question, verdict.points)
            notes = []
            if by_person and worth != verdict.points:
                notes.append(f"a person gave {has:g} of {worth:g} points; it is worth {verdict.points:g} now")
            if verdict.status is Status.HELD:
                notes.append(f"held: {verdict.reason}")
            elif kept:
                notes.append(f"{verdict.status}: {verdict.reason}")
            had = before.scores.get(question)
            changes.append(
                Change(*question, had, has, verdict.score, verdict.points, kept, by_person, "; ".join(notes))
            )
        judged = {verdict.grade_id for verdict in outcome.verdicts}
        for (notebook, name), score in before.scores.items():
            if notebook == outcome.name and name not in judged:
                changes.append(Change(notebook, name, score, None, None, 0.0, False, False, "this question is gone"))
    return Regraded(student, old.total if old else None, new.total, tuple(changes))
