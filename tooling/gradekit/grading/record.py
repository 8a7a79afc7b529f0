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
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from nbgrader.api import (
    Comment,
    Grade,
    Gradebook,
    InvalidEntry,
    MissingEntry,
    SubmittedAssignment,
    SubmittedNotebook,
    new_uuid,
)
from nbgrader.preprocessors import AssignLatePenalties
from sqlalchemy.exc import OperationalError

from gradekit.course import Course, CourseError, Submission
from gradekit.grading.holding import answer_above
from gradekit.grading.job import Outcome, Target
from gradekit.grading.judge import Status, Verdict
from gradekit.grading.plan import RECORD, Planned

log = logging.getLogger("gradekit")
T = TypeVar("T")

#: A gradebook that another program holds is waited for: SQLite itself waits 5 s each time.
LOCK_RETRIES = 5


@dataclass(frozen=True)
class _Before:
    """What was recorded of a submission, as far as it bears on what is recorded next.

    Attributes:
        lower: whether marks go down where the verdicts say so; None when nothing is being regraded.
        kept: grade row -> points that it keeps from an earlier grading, in the place where a person's would be.
        points: notebook and grade id -> what the cell was worth.
        same_work: whether the student has handed in nothing new since.
    """

    lower: bool | None
    kept: dict[str, float]
    points: dict[tuple[str, str], float]
    same_work: bool


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
            (notebook.name, grade.name) in held
            and (grade.manual_score is None or is_kept(grade, recorded.get("kept", {})))
            for notebook in row.notebooks
            for grade in notebook.grades
        )

    def record(self, planned: Planned, outcomes: Sequence[Outcome], *, lower: bool | None = None) -> None:
        """Record all of a submission, or nothing of it.

        Args:
            outcomes: of all its notebooks, or of some: what is recorded of the others stands.
            lower: for a regrading, whether marks go down where the verdicts say so. Without it a cell that would lose
                points keeps those that it had, in the place where a person's points would be.
        """
        staging = self.folder / "new"
        try:
            self._stage(staging, planned, outcomes)
            late, kept = patiently(lambda: self._write(planned, outcomes, lower))
            self._write_record(staging, planned, outcomes, late, kept)
        except BaseException:
            shutil.rmtree(staging, ignore_errors=True)
            raise
        self._publish(staging, planned.submission)

    def protect(self, planned: Planned) -> None:
        """Have the next grading of the same work keep the marks that it would lower; see ``record``."""
        place = self._place(planned.submission)
        if recorded := read_record(place):
            new = place / f"{RECORD}.new"
            new.write_text(json.dumps(recorded | {"protects": planned.work}, indent=1), encoding="utf-8")
            os.replace(new, place / RECORD)

    def _write(
        self, planned: Planned, outcomes: Sequence[Outcome], lower: bool | None
    ) -> tuple[float, dict[str, float]]:
        with one_transaction(self.gradebook):
            self.gradebook.db.expire_all()  # a person may have given marks since this submission was looked at
            return self.write_rows(planned, outcomes, lower)

    def write_rows(
        self, planned: Planned, outcomes: Sequence[Outcome], lower: bool | None
    ) -> tuple[float, dict[str, float]]:
        """All rows of a submission, in the caller's transaction.

        Returns:
            How late it is, in seconds, and grade row -> points that were kept from an earlier grading.
        """
        submission = planned.submission
        before = self._before(planned, lower)
        by_name = {outcome.name: outcome for outcome in outcomes}
        targets = {job.target.notebook: job.target for job in planned.jobs}
        kept: dict[str, float] = {}
        self.gradebook.update_or_create_student(submission.student)
        stamp = {} if submission.timestamp is None else {"timestamp": submission.timestamp}
        row = self.gradebook.update_or_create_submission(submission.assignment, submission.student, **stamp)
        worth = {notebook.id: notebook.score - (notebook.late_submission_penalty or 0) for notebook in row.notebooks}
        for notebook in self._notebooks(row):
            if notebook.name in by_name:
                kept |= self._write_notebook(notebook, by_name[notebook.name], targets[notebook.name], before)
            else:
                kept |= {grade.id: before.kept[grade.id] for grade in notebook.grades if grade.id in before.kept}
        self._penalise(row, worth if before.lower is False else {})
        return row.total_seconds_late, kept

    def _before(self, planned: Planned, lower: bool | None) -> _Before:
        recorded = read_record(self._place(planned.submission)) or {"notebooks": []}
        if lower is None and recorded.get("protects") == planned.work:
            lower = False
        points = {(n["name"], v["grade_id"]): v["points"] for n in recorded["notebooks"] for v in n["verdicts"]}
        return _Before(lower, recorded.get("kept", {}), points, recorded.get("work") == planned.work)

    def _notebooks(self, row: SubmittedAssignment) -> list[SubmittedNotebook]:
        """The submission's notebooks, with those added that the assignment has gained since it was first recorded."""
        have = {notebook.notebook_id for notebook in row.notebooks}
        for notebook in row.assignment.notebooks:
            if notebook.id not in have:
                self.gradebook.db.add(SubmittedNotebook(notebook=notebook, assignment=row))
        self.gradebook.db.flush()
        return list(row.notebooks)

    def _write_notebook(
        self, notebook: SubmittedNotebook, outcome: Outcome, target: Target, before: _Before
    ) -> dict[str, float]:
        """The rows of one notebook. Returns grade row -> points kept from an earlier grading."""
        # A manual cell has two rows of the same name: one to grade and one to comment on.
        source = notebook.notebook
        graded = {cell.name: cell for cell in [*source.grade_cells, *source.task_cells]}
        answered = {cell.name: cell for cell in [*source.solution_cells, *source.task_cells]}
        grades = {grade.cell_id: grade for grade in notebook.grades}
        comments = {comment.cell_id: comment for comment in notebook.comments}
        above = answer_above(target)
        kept: dict[str, float] = {}
        notes: dict[str, list[str]] = {}
        for verdict in outcome.verdicts:
            cell = graded[verdict.grade_id]
            grade = grades.get(cell.id) or Grade(id=new_uuid(), cell_id=cell.id, notebook=notebook)
            ours = is_kept(grade, before.kept)
            keeps = points_kept(grade.auto_score, grade.manual_score if ours else None, verdict.score, before.lower)
            by_person = grade.manual_score is not None and not ours
            if by_person:
                # What a person has looked at stays looked at, when it is regraded to the same.
                seen = before.lower is not None and before.same_work and not grade.needs_manual_grade
                changed = (grade.auto_score, before.points.get((notebook.name, cell.name))) != (
                    verdict.score,
                    verdict.points,
                )
                grade.needs_manual_grade = not seen or changed
            else:
                grade.manual_score = keeps
                grade.needs_manual_grade = needs_person(verdict)
                if keeps is not None:
                    kept[grade.id] = keeps
                    notes.setdefault(above.get(cell.name, ""), []).append(_note(verdict, keeps))
            grade.auto_score = verdict.score
            self.gradebook.db.add(grade)
        for grade_id, cell in answered.items():
            comment = comments.get(cell.id) or Comment(cell_id=cell.id, notebook=notebook)
            said = [outcome.comments.get(grade_id), *notes.get(grade_id, ())]
            comment.auto_comment = "\n\n".join(filter(None, said)) or None
            self.gradebook.db.add(comment)
        return kept

    def _penalise(self, row: SubmittedAssignment, worth: dict[str, float]) -> None:
        """Late penalties by the course's nbgrader plugin, on the scores just written.

        Args:
            worth: notebook row -> points less penalty that it must not fall below.
        """
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
                penalty = self._late._check_late_penalty(notebook, penalty)
                if notebook.id in worth:
                    penalty = max(0.0, min(penalty, notebook.score - worth[notebook.id]))
                notebook.late_submission_penalty = penalty

    def _stage(self, staging: Path, planned: Planned, outcomes: Sequence[Outcome]) -> None:
        """Write the autograded folder beside its place."""
        shutil.rmtree(staging, ignore_errors=True)
        staging.mkdir(parents=True)
        for name, content in planned.files.items():
            path = staging / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
        for job in planned.jobs:
            now = self._place(planned.submission) / f"{job.target.notebook}.ipynb"
            if now.is_file():  # of a notebook that is not graded this time
                shutil.copyfile(now, staging / now.name)
        for outcome in outcomes:
            (staging / f"{outcome.name}.ipynb").write_text(outcome.notebook, encoding="utf-8")

    def _write_record(
        self, staging: Path, planned: Planned, outcomes: Sequence[Outcome], late: float, kept: dict[str, float]
    ) -> None:
        """The last file of the folder: it makes a later run skip this submission."""
        old = (read_record(self._place(planned.submission)) or {"notebooks": []})["notebooks"]
        notebooks = {one["name"]: one for one in old} | {outcome.name: outcome.to_json() for outcome in outcomes}
        names = sorted(job.target.notebook for job in planned.jobs)
        record = {
            "fingerprint": planned.fingerprint,
            "work": planned.work,
            "seconds_late": late,
            "findings": list(planned.findings),
            "notebooks": [notebooks[name] for name in names if name in notebooks],
            "kept": kept,
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


def points_kept(auto: float | None, floor: float | None, new: float | None, lower: bool | None) -> float | None:
    """The points of an earlier grading that a cell keeps, or None when it gets those of the new one.

    Args:
        auto: the automatic points so far.
        floor: the points that it keeps so far.
        new: the points by the new verdict; None when only a person, or another machine, can give them.
        lower: as in ``Recorder.record``.
    """
    had = floor if floor is not None or lower is None else auto
    return had if not lower and had is not None and had > (new or 0) else None


def is_kept(grade: Grade, kept: Mapping[str, float]) -> bool:
    """Whether the points in a person's place are those that a regrading kept, as ``kept`` of the record says."""
    return grade.manual_score is not None and kept.get(grade.id) == grade.manual_score


def _note(verdict: Verdict, points: float) -> str:
    """For students too."""
    now = f"{verdict.score:g}" if verdict.score is not None else "none without a person"
    return (
        f"Kept: {points:g} points for {verdict.grade_id} from an earlier grading. "
        f"With the tests as they are now: {now} of {verdict.points:g}."
    )


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


def patiently(write: Callable[[], T]) -> T:
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
