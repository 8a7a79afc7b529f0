"""The one writer: puts the outcomes of a submission into the gradebook and the autograded folder, all or nothing.

The gradebook is committed first and the folder, which holds the fingerprint, is renamed into place after it. A run that
is killed in between finds no fingerprint, grades that submission again and writes the same rows: no mark is lost, none
is doubled.
"""

from __future__ import annotations

import json
import logging
import os
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

from nbgrader.api import Comment, Grade, Gradebook, InvalidEntry, MissingEntry, SubmittedAssignment, SubmittedNotebook
from nbgrader.preprocessors import AssignLatePenalties
from sqlalchemy.exc import OperationalError

from gradekit.course import Course, Submission
from gradekit.grading.job import Outcome
from gradekit.grading.judge import Status, Verdict
from gradekit.grading.plan import Planned

log = logging.getLogger("gradekit")
T = TypeVar("T")

#: Beside the executed notebooks: the fingerprint, and what a TA may ask of a verdict.
RECORD = ".gradekit.json"
#: A gradebook that another program holds is waited for: SQLite itself waits 5 s each time.
LOCK_RETRIES = 5


class Recorder:
    """Writes outcomes. One per run: SQLite takes one writer at a time."""

    def __init__(self, course: Course, gradebook: Gradebook) -> None:
        self.course, self.gradebook = course, gradebook
        self._late = AssignLatePenalties(config=course.config)
        self._late.init_plugin()

    def is_current(self, planned: Planned) -> bool:
        """Whether the gradebook and the autograded folder already hold the marks of exactly this submission."""
        recorded = read_record(self.course, planned.submission)
        if recorded is None or recorded.get("fingerprint") != planned.fingerprint:
            return False
        try:
            self.gradebook.find_submission(planned.submission.assignment, planned.submission.student)
        except MissingEntry:
            return False
        return True

    def record(self, planned: Planned, outcomes: list[Outcome]) -> None:
        """Record all of a submission, or nothing of it."""
        staging = self._stage(planned, outcomes)
        try:
            _patiently(lambda: self._write_rows(planned.submission, outcomes))
        except BaseException:
            shutil.rmtree(staging, ignore_errors=True)
            raise
        self._publish(staging, planned.submission)

    def _write_rows(self, submission: Submission, outcomes: list[Outcome]) -> None:
        by_name = {outcome.name: outcome for outcome in outcomes}
        with one_transaction(self.gradebook):
            self.gradebook.update_or_create_student(submission.student)
            stamp = {} if submission.timestamp is None else {"timestamp": submission.timestamp}
            row = self.gradebook.update_or_create_submission(submission.assignment, submission.student, **stamp)
            for notebook in self._notebooks(row):
                if notebook.name in by_name:
                    self._write_notebook(notebook, by_name[notebook.name])
            self._penalise(row)

    def _notebooks(self, row: SubmittedAssignment) -> list[SubmittedNotebook]:
        """The submission's notebooks, with those added that the assignment has gained since it was first recorded."""
        have = {notebook.notebook_id for notebook in row.notebooks}
        for notebook in row.assignment.notebooks:
            if notebook.id not in have:
                self.gradebook.db.add(SubmittedNotebook(notebook=notebook, assignment=row))
        self.gradebook.db.flush()
        return list(row.notebooks)

    def _write_notebook(self, notebook: SubmittedNotebook, outcome: Outcome) -> None:
        # A manual cell has two rows of the same name: one to grade and one to comment on.
        source = notebook.notebook
        graded = {cell.name: cell for cell in [*source.grade_cells, *source.task_cells]}
        answered = {cell.name: cell for cell in [*source.solution_cells, *source.task_cells]}
        grades = {grade.cell_id: grade for grade in notebook.grades}
        comments = {comment.cell_id: comment for comment in notebook.comments}
        for verdict in outcome.verdicts:
            cell = graded[verdict.grade_id]
            grade = grades.get(cell.id) or Grade(cell_id=cell.id, notebook=notebook)
            grade.auto_score = verdict.score
            grade.needs_manual_grade = needs_person(verdict) or grade.manual_score is not None
            self.gradebook.db.add(grade)
        for grade_id, cell in answered.items():
            comment = comments.get(cell.id) or Comment(cell_id=cell.id, notebook=notebook)
            comment.auto_comment = outcome.comments.get(grade_id)
            self.gradebook.db.add(comment)

    def _penalise(self, row: SubmittedAssignment) -> None:
        """Late penalties by the course's nbgrader plugin, on the scores just written."""
        self.gradebook.db.flush()
        self.gradebook.db.expire_all()
        for notebook in row.notebooks:
            notebook.late_submission_penalty = None
            if row.total_seconds_late > 0:
                penalty = self._late.plugin_inst.late_submission_penalty(
                    row.student.id, notebook.score, row.total_seconds_late
                )
                if penalty is not None:
                    notebook.late_submission_penalty = self._late._check_late_penalty(notebook, penalty)

    def _stage(self, planned: Planned, outcomes: list[Outcome]) -> Path:
        """Write the autograded folder beside its place, complete."""
        submission = planned.submission
        staging = self._staging(submission)
        shutil.rmtree(staging, ignore_errors=True)
        staging.mkdir(parents=True)
        for name, content in planned.files.items():
            path = staging / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
        for outcome in outcomes:
            if outcome.notebook:
                (staging / f"{outcome.name}.ipynb").write_text(outcome.notebook, encoding="utf-8")
        record = {
            "fingerprint": planned.fingerprint,
            "findings": list(planned.findings),
            "notebooks": [outcome.to_json() for outcome in outcomes],
        }
        (staging / RECORD).write_text(json.dumps(record, indent=1), encoding="utf-8")
        return staging

    def _staging(self, submission: Submission) -> Path:
        # A leading dot keeps it out of nbgrader's globs; the same file system makes the rename one step.
        base = self.course.path("autograded", ".", ".")
        return base / ".staging" / submission.student / submission.assignment

    def _publish(self, staging: Path, submission: Submission) -> None:
        place = self.course.path("autograded", submission.assignment, submission.student)
        place.parent.mkdir(parents=True, exist_ok=True)
        if place.exists():
            old = staging.with_name(f"{staging.name}.old")
            shutil.rmtree(old, ignore_errors=True)
            os.rename(place, old)
            os.rename(staging, place)
            shutil.rmtree(old, ignore_errors=True)
        else:
            os.rename(staging, place)


def needs_person(verdict: Verdict) -> bool:
    """Whether a person has to look before the mark stands."""
    return verdict.status in (Status.MANUAL, Status.ODD, Status.NOT_HERE)


def read_record(course: Course, submission: Submission) -> dict | None:
    """What the last grading of a submission left beside its notebooks, or None."""
    try:
        path = course.path("autograded", submission.assignment, submission.student) / RECORD
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None


@contextmanager
def one_transaction(gradebook: Gradebook) -> Iterator[None]:
    """Make nbgrader's API calls inside the block one transaction; each of them would commit by itself."""
    session = gradebook.db()
    session.commit = session.flush
    try:
        with session.no_autoflush:  # nbgrader's half-built objects are not to be flushed by their own queries
            yield
    except BaseException:
        session.rollback()
        raise
    else:
        type(session).commit(session)
    finally:
        del session.commit


def _patiently(write: Callable[[], T]) -> T:
    """Call ``write``, again while the gradebook is held by another program."""
    for attempt in range(LOCK_RETRIES):
        try:
            return write()
        except (OperationalError, InvalidEntry) as error:  # nbgrader's API turns some of the first into the second
            if "locked" not in str(error) or attempt == LOCK_RETRIES - 1:
                raise
            log.warning("the gradebook is held by another program; waiting for it (%d)", attempt + 1)
            time.sleep(0.2 * 2**attempt)
    raise AssertionError("unreachable")
