"""Marks for other systems: plugins for ``nbgrader export``, which ``gradekit export`` calls too.

Each writes the total of an assignment and every question of it. Cells are quoted by the csv module; text that a
spreadsheet would take for a formula gets an apostrophe (OWASP, "CSV Injection"). The file is for its owner alone.
"""

from __future__ import annotations

import csv
import io
import json
import os
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import ClassVar

from nbgrader.api import Gradebook
from nbgrader.plugins import ExportPlugin

from gradekit.reports import marks
from gradekit.reports.marks import Marks, Person, Question, Sheet, Work

_FORMULA = ("=", "+", "-", "@", "\t", "\r")


class MarksExport(ExportPlugin):
    """What all formats share: ``default`` is the file's name without ``--to``."""

    default: ClassVar[str]

    def export(self, gradebook: Gradebook) -> None:
        """Write the file whole or not at all.

        Raises:
            CourseError: an assignment or a student that the gradebook does not have.
        """
        found = marks.read(gradebook, [str(name) for name in self.assignment], [str(name) for name in self.student])
        self.write(self.text(found))

    def text(self, found: Marks) -> str:
        raise NotImplementedError

    @property
    def path(self) -> Path:
        return Path(self.to or self.default)

    def write(self, text: str) -> None:
        unfinished = self.path.with_name(f".{self.path.name}.new")
        unfinished.unlink(missing_ok=True)
        with open(os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as file:
            file.write(text)
        unfinished.replace(self.path)
        self.log.info("Exported grades to %s", self.path)


class TableExport(MarksExport):
    """A file of comma-separated values."""

    def rows(self, found: Marks) -> Iterator[list[str | float]]:
        raise NotImplementedError

    def text(self, found: Marks) -> str:
        file = io.StringIO(newline="")
        writer = csv.writer(file, lineterminator="\n")
        for row in self.rows(found):
            writer.writerow([_harmless(cell) if isinstance(cell, str) else f"{cell:.10g}" for cell in row])
        return file.getvalue()


class CsvExport(TableExport):
    """One row for each question of each student, so that they add up: a late penalty is a row of its own.

    Who has not handed in has 0 points, as in nbgrader's own export, and no ``timestamp``.
    """

    default = "grades.csv"

    def rows(self, found: Marks) -> Iterator[list[str | float]]:
        yield ["assignment", "duedate", "timestamp", "student_id", "last_name", "first_name", "email", "notebook",
               "question", "graded_by", "score", "max_score", "waits_for_a_person"]  # fmt: skip
        for sheet, person, work in _pairs(found):
            name = [person.id, person.last_name, person.first_name, person.email]
            first = [sheet.name, _time(sheet.due), _time(work.handed_in) if work else "", *name]
            for question in sheet.questions:
                key = (question.notebook, question.name)
                score, waits = (work.scores.get(key, 0.0), key in work.waiting) if work else (0.0, False)
                how = "person" if question.manual else "machine"
                yield [*first, *key, how, score, question.points, "yes" if waits else "no"]
            if work and work.total != work.raw:
                yield [*first, "", "late penalty", "machine", work.total - work.raw, 0.0, "no"]


class WideExport(TableExport):
    """One row for each student and columns for assignments and their questions, empty where nothing was handed in."""

    def row(self, found: Marks, person: Person) -> list[str | float]:
        cells: list[str | float] = []
        for sheet in found.sheets:
            work = found.works.get((person.id, sheet.name))
            cells.append("" if work is None else work.total)
            scores = {} if work is None else work.scores
            cells += [scores.get((question.notebook, question.name), "") for question in sheet.questions]
        return cells


class CanvasExport(WideExport):
    """For "Import" in Canvas' gradebook, which finds students by their login.

    Canvas makes an assignment of each new column. Questions are marked "(read only)", so that it passes them over: they
    are parts of the assignment's points and would count twice.
    """

    default = "grades-canvas.csv"

    def rows(self, found: Marks) -> Iterator[list[str | float]]:
        titles: list[str | float] = []
        possible: list[str | float] = []
        for sheet in found.sheets:
            titles += [sheet.name, *(_title(sheet, question) for question in sheet.questions)]
            possible += [sheet.points, *("(read only)" for _ in sheet.questions)]
        yield ["Student", "ID", "SIS User ID", "SIS Login ID", "Section", *titles]
        yield ["    Points Possible", "", "", "", "", *possible]
        for person in found.people:
            name = ", ".join(filter(None, [person.last_name, person.first_name])) or person.id
            yield [name, "", "", person.id, "", *self.row(found, person)]


class MoodleExport(WideExport):
    """For "Import > CSV file" in Moodle's gradebook, where each column is mapped to a grade item or left out."""

    default = "grades-moodle.csv"

    def rows(self, found: Marks) -> Iterator[list[str | float]]:
        titles: list[str | float] = []
        for sheet in found.sheets:
            titles.append(f"Assignment: {sheet.name} (Real)")
            titles += [f"{_title(sheet, question)} (Real)" for question in sheet.questions]
        yield ["Username", "First name", "Last name", "Email address", *titles]
        for person in found.people:
            yield [person.id, person.first_name, person.last_name, person.email, *self.row(found, person)]


class LtiJsonExport(MarksExport):
    """Line items with scores, as LTI's Assignment and Grade Services 2.0 take them: one of the assignment, then one
    of each question with the tag "question".

    A ``userId`` is the student's id in the gradebook; who sends the scores puts the platform's own in its place.
    """

    default = "grades-lti.json"

    def text(self, found: Marks) -> str:
        items = []
        for sheet in found.sheets:
            scores = [self._total(person, found.works.get((person.id, sheet.name)), sheet) for person in found.people]
            items.append(_item(sheet.name, sheet, "", "assignment", sheet.points, scores))
            for question in sheet.questions:
                scores = [
                    self._score(person, work, work.scores.get(key, 0.0), question.points, key in work.waiting)
                    for person in found.people
                    if (work := found.works.get((person.id, sheet.name)))
                    for key in [(question.notebook, question.name)]
                ]
                place = f"{question.notebook}/{question.name}"
                items.append(_item(_title(sheet, question), sheet, place, "question", question.points, scores))
        return json.dumps({"lineItems": items}, indent=1, ensure_ascii=False) + "\n"

    def _total(self, person: Person, work: Work | None, sheet: Sheet) -> dict[str, object]:
        if work is None:
            return {
                "userId": person.id,
                "timestamp": _now(),
                "activityProgress": "Initialized",
                "gradingProgress": "NotReady",
            }
        return self._score(person, work, work.total, sheet.points, bool(work.waiting))

    def _score(self, person: Person, work: Work, given: float, most: float, waits: bool) -> dict[str, object]:
        return {
            "userId": person.id,
            "timestamp": _now(),
            "activityProgress": "Submitted",
            "gradingProgress": "PendingManual" if waits else "FullyGraded",
            "scoreGiven": given,
            "scoreMaximum": most,
        }


FORMATS: dict[str, type[MarksExport]] = {
    "canvas": CanvasExport,
    "moodle": MoodleExport,
    "csv": CsvExport,
    "lti-json": LtiJsonExport,
}


def _pairs(found: Marks) -> Iterator[tuple[Sheet, Person, Work | None]]:
    for sheet in found.sheets:
        for person in found.people:
            yield sheet, person, found.works.get((person.id, sheet.name))


def _title(sheet: Sheet, question: Question) -> str:
    return f"{sheet.name} / {question.notebook} / {question.name}"


def _item(
    label: str, sheet: Sheet, place: str, tag: str, points: float, scores: list[dict[str, object]]
) -> dict[str, object]:
    resource = f"{sheet.name}/{place}" if place else sheet.name
    item: dict[str, object] = {"label": label, "resourceId": resource, "tag": tag, "scoreMaximum": points}
    if sheet.due:
        item["endDateTime"] = _zoned(sheet.due)
    return {**item, "scores": scores}


def _harmless(text: str) -> str:
    return f"'{text}" if text.startswith(_FORMULA) else text


def _time(when: datetime | None) -> str:
    return "" if when is None else str(when)


def _zoned(when: datetime) -> str:
    """nbgrader keeps times in UTC, without saying so."""
    return when.replace(tzinfo=UTC).isoformat()


def _now() -> str:
    """When the score was last changed, which platforms use to order updates."""
    return datetime.now(UTC).isoformat(timespec="milliseconds")
