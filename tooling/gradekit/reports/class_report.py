"""The report on a class: one self-contained page for each assignment, and one for all of them."""

from __future__ import annotations

import base64
import hashlib
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from nbgrader.api import Gradebook

from gradekit import gradebook as gradebooks
from gradekit.course import Course, CourseError
from gradekit.grading.judge import Status
from gradekit.grading.record import read_record
from gradekit.reports import plots
from gradekit.reports.items import Concern, Item, LabItems, by_lab, concerns, cronbach, items
from gradekit.reports.marks import Marks, Person, Sheet, Work, read


@dataclass(frozen=True)
class Row:
    """A student's line in an assignment; ``work`` is None when nothing was handed in."""

    person: Person
    work: Work | None
    late_s: float
    held: int
    cost_s: float


@dataclass(frozen=True)
class AssignmentReport:
    """What is said of one assignment; ``shares`` are the totals of those who handed in, as parts of its points."""

    sheet: Sheet
    rows: tuple[Row, ...]
    items: tuple[Item, ...]
    shares: tuple[float, ...]
    alpha: float | None

    @property
    def handed_in(self) -> int:
        return len(self.shares)

    @property
    def late(self) -> list[Row]:
        return [row for row in self.rows if row.late_s > 0]

    @property
    def held(self) -> list[Row]:
        return [row for row in self.rows if row.held]

    @property
    def missing(self) -> list[Row]:
        return [row for row in self.rows if row.work is None]

    @property
    def waiting(self) -> int:
        return sum(len(row.work.waiting) for row in self.rows if row.work)

    @property
    def median(self) -> float | None:
        return statistics.median(self.shares) if self.shares else None

    @property
    def cost_s(self) -> float:
        return sum(row.cost_s for row in self.rows)

    @property
    def distribution(self) -> str:
        return plots.distribution(self.shares)

    @property
    def labs(self) -> list[LabItems]:
        return by_lab(self.items)

    @property
    def leads(self) -> dict[str, list[str]]:
        """What a question's author would look at -> the questions of which it is true."""
        found: dict[str, list[str]] = {}
        for item in self.items:
            for doubt in item.doubts:
                found.setdefault(doubt, []).append(item.question.name)
        return found

    @property
    def picture(self) -> str:
        return plots.item_shares(self.labs)


def write(course: Course, assignments: Sequence[str] = ()) -> list[Path]:
    """Write ``reports/<assignment>.html`` for each assignment, and ``reports/class.html`` about all of them.

    Raises:
        CourseError: there is no gradebook yet, or no such assignment in it.
    """
    if not gradebooks.exists(course):
        raise CourseError("There is no gradebook yet; it is made when an assignment is released and graded.")
    with Gradebook(course.db_url, course.course_id) as gradebook:
        found = read(gradebook)
    known = [sheet.name for sheet in found.sheets]
    for name in assignments:
        if name not in known:
            raise CourseError(f"the gradebook has no assignment '{name}'. It has: {', '.join(known) or 'none'}.")
    reports = [_report(course, found, sheet) for sheet in found.sheets]
    folder = course.root / "reports"
    folder.mkdir(exist_ok=True)
    written = []
    for report in reports:
        if not assignments or report.sheet.name in assignments:
            written.append(write_page(folder / f"{report.sheet.name}.html", "assignment", course, report=report))
    started = [report.sheet.name for report in reports if report.handed_in]
    table = [[found.works.get((person.id, sheet.name)) for sheet in found.sheets] for person in found.people]
    worries: list[Concern] = concerns(found, started)
    shown = {
        "reports": reports,
        "rows": list(zip(found.people, table, strict=True)),
        "concerns": worries,
        "picture": plots.compared([(report.sheet.name, report.shares) for report in reports]),
    }
    written.append(write_page(folder / "class.html", "class", course, **shown))
    return written


def _report(course: Course, found: Marks, sheet: Sheet) -> AssignmentReport:
    records: dict[str, Mapping[str, Any]] = {}
    rows = []
    for person in found.people:
        work = found.works.get((person.id, sheet.name))
        record = read_record(course.path("autograded", sheet.name, person.id)) if work else None
        if record:
            records[person.id] = record
        notebooks = record["notebooks"] if record else []
        waiting = work.waiting if work else set()
        held = sum(
            verdict["status"] == Status.HELD and (notebook["name"], verdict["grade_id"]) in waiting
            for notebook in notebooks
            for verdict in notebook["verdicts"]
        )
        late, cost = (record or {}).get("seconds_late") or 0.0, sum(n.get("wall_s", 0.0) for n in notebooks)
        rows.append(Row(person, work, late, held, cost))
    shares = tuple(row.work.total / sheet.points for row in rows if row.work and sheet.points)
    return AssignmentReport(sheet, tuple(rows), tuple(items(found, sheet, records)), shares, cronbach(found, sheet))


def write_page(path: Path, template: str, course: Course, **shown: Any) -> Path:
    """A page that fetches nothing and runs no script but its own, which its policy names by digest."""
    environment = Environment(
        loader=PackageLoader("gradekit.reports"), autoescape=True, undefined=StrictUndefined, trim_blocks=True,
        lstrip_blocks=True,
    )  # fmt: skip
    environment.filters |= {"percent": _percent, "seconds": _seconds, "points": lambda value: f"{value:.10g}"}
    script, _, _ = environment.loader.get_source(environment, "sort.js")  # type: ignore[union-attr]
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    page = environment.get_template(f"{template}.html.j2")
    text = page.render(course=course.course_id or course.root.name, script=script, digest=digest, **shown)
    path.write_text(text, encoding="utf-8", errors="replace")
    return path


def _percent(share: float | None) -> str:
    return "" if share is None else f"{100 * share:.0f}"


def _seconds(value: float | None) -> str:
    if value is None:
        return ""
    return f"{value:.2f}" if value < 60 else f"{value / 60:.1f} min" if value < 5400 else f"{value / 3600:.1f} h"
