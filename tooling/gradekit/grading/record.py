"""The one writer: puts the outcomes of a submission into the gradebook and the autograded folder, all or nothing.

The gradebook is committed first and the folder, which holds the fingerprint, is renamed into place after it. A run that
is killed in between finds no fingerprint, grades that submission again and writes the same rows: no mark is lost, none
is doubled.
"""

from __future__ import annotations

import fcntl
import json
import logging
import os
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

from nbgrader.api import Comment, Grade, Gradebook, InvalidEntry, MissingEntry, SubmittedAssignment, SubmittedNotebook
from nbgrader.preprocessors import AssignLatePenalties
from sqlalchemy.exc import OperationalError

from gradekit.course import Course, CourseError, Submission
from gradekit.grading.job import Outcome
from gradekit.grading.judge import Status, Verdict
from gradekit.grading.plan import RECORD, Planned

log = logging.getLogger("gradekit")
T = TypeVar("T")

#: A gradebook that another program holds is waited for: SQLite itself waits 5 s each time.
LOCK_RETRIES = 5


class Recorder:
    """Writes outcomes. One per run: SQLite takes one writer at a time.

    Args:
        folder: what ``only_writer`` gives.
    """

    def __init__(self, course: Course, gradebook: Gradebook, folder: Path) -> None:
        self.course, self.gradebook, self.folder = course, gradebook, folder
        self._late = AssignLatePenalties(config=course.config)
        self._late.init_plugin()

    def is_current(self, planned: Planned, gpu: bool) -> bool:
        """Whether gradebook and autograded folder hold the marks of exactly this submission, this late.

        Args:
            gpu: whether jobs that want a GPU can have one now; what waited for one is then graded again.
        """
        recorded = read_record(self._place(planned.submission))
        if recorded is None or recorded.get("fingerprint") != planned.fingerprint:
            return False
        try:
            row = self.gradebook.find_submission(planned.submission.assignment, planned.submission.student)
        except MissingEntry:
            return False
        if recorded.get("seconds_late") != row.total_seconds_late:  # a new due date, or an extension
            return False
        wanting = {job.target.notebook for job in planned.jobs if job.gpu and gpu}
        verdicts = [(notebook, verdict) for notebook in recorded["notebooks"] for verdict in notebook["verdicts"]]
        if any(n["name"] in wanting and not n.get("gpu") and v["status"] == Status.NOT_HERE for n, v in verdicts):
            return False
        marks = {(notebook["name"], verdict["grade_id"]): verdict["score"] for notebook, verdict in verdicts}
        return marks == {(n.name, grade.name): grade.auto_score for n in row.notebooks for grade in n.grades}

    def held(self, submission: Submission) -> int:
        """How many cells of a recorded submission are held, and nobody has given them points yet."""
        recorded = read_record(self._place(submission)) or {"notebooks": []}
        held = {
            (notebook["name"], verdict["grade_id"])
            for notebook in recorded["notebooks"]
            for verdict in notebook["verdicts"]
            if verdict["status"] == Status.HELD
        }
        if not held:
            return 0
        row = self.gradebook.find_submission(submission.assignment, submission.student)
        return sum(
            (notebook.name, grade.name) in held and grade.manual_score is None
            for notebook in row.notebooks
            for grade in notebook.grades
        )

    def record(self, planned: Planned, outcomes: list[Outcome]) -> None:
        """Record all of a submission, or nothing of it."""
        staging = self.folder / "new"
        try:
            self._stage(staging, planned, outcomes)
            late = _patiently(lambda: self._write_rows(planned.submission, outcomes))
            self._write_record(staging, planned, outcomes, late)
        except BaseException:
            shutil.rmtree(staging, ignore_errors=True)
            raise
        self._publish(staging, planned.submission)

    def _write_rows(self, submission: Submission, outcomes: list[Outcome]) -> float:
        """All rows of a submission in one transaction. Returns how late it is, in seconds."""
        by_name = {outcome.name: outcome for outcome in outcomes}
        with one_transaction(self.gradebook):
            self.gradebook.db.expire_all()  # a person may have given marks since this submission was looked at
            self.gradebook.update_or_create_student(submission.student)
            stamp = {} if submission.timestamp is None else {"timestamp": submission.timestamp}
            row = self.gradebook.update_or_create_submission(submission.assignment, submission.student, **stamp)
            for notebook in self._notebooks(row):
                if notebook.name in by_name:
                    self._write_notebook(notebook, by_name[notebook.name])
            self._penalise(row)
            return row.total_seconds_late

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
        for notebook in row.notebooks:
            notebook.late_submission_penalty = None
        if row.total_seconds_late <= 0:
            return
        self.gradebook.db.flush()
        self.gradebook.db.expire_all()
        for notebook in row.notebooks:
            penalty = self._late.plugin_inst.late_submission_penalty(
                row.student.id, notebook.score, row.total_seconds_late
            )
            if penalty is not None:
                notebook.late_submission_penalty = self._late._check_late_penalty(notebook, penalty)

    def _stage(self, staging: Path, planned: Planned, outcomes: list[Outcome]) -> None:
        """Write the autograded folder beside its place."""
        shutil.rmtree(staging, ignore_errors=True)
        staging.mkdir(parents=True)
        for name, content in planned.files.items():
            path = staging / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
        for outcome in outcomes:
            (staging / f"{outcome.name}.ipynb").write_text(outcome.notebook, encoding="utf-8")

    def _write_record(self, staging: Path, planned: Planned, outcomes: list[Outcome], late: float) -> None:
        """The last file of the folder: it makes a later run skip this submission."""
        record = {
            "fingerprint": planned.fingerprint,
            "seconds_late": late,
            "findings": list(planned.findings),
            "notebooks": [outcome.to_json() for outcome in outcomes],
        }
        (staging / RECORD).write_text(json.dumps(record, indent=1), encoding="utf-8")

    def _place(self, submission: Submission) -> Path:
        return self.course.path("autograded", submission.assignment, submission.student)

    def _publish(self, staging: Path, submission: Submission) -> None:
        place = self._place(submission)
        place.parent.mkdir(parents=True, exist_ok=True)
        old = staging.with_name("old")
        if place.exists():
            os.rename(place, old)
        os.rename(staging, place)
        shutil.rmtree(old, ignore_errors=True)


@contextmanager
def only_writer(course: Course) -> Iterator[Path]:
    """Hold the course for this run, in a folder for half-finished things; what a killed run left there is gone.

    Raises:
        CourseError: another run holds it.
    """
    # A leading dot keeps it out of nbgrader's globs; the same file system makes a rename one step.
    folder = course.path("autograded", ".") / ".staging"
    folder.mkdir(parents=True, exist_ok=True)
    with open(folder / "lock", "w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise CourseError(f"Another run is grading {course.root}. Wait for it to end, or end it.") from None
        for name in ("new", "old"):
            shutil.rmtree(folder / name, ignore_errors=True)
        yield folder


def needs_person(verdict: Verdict) -> bool:
    """Whether a person has to look before the mark stands."""
    return verdict.status in (Status.MANUAL, Status.ODD, Status.NOT_HERE, Status.HELD)


def read_record(folder: Path) -> dict[str, Any] | None:
    """What the last grading of a submission left in its autograded folder, or None."""
    try:
        return json.loads((folder / RECORD).read_text(encoding="utf-8"))
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
