"""The page for whoever decides on held points: what was found in each submission, where, and what to do."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any

from nbformat import NotebookNode
from nbgrader.api import Gradebook, MissingEntry, SubmittedNotebook

from gradekit.course import Course, CourseError, Role, Submission, read_notebook, role_of
from gradekit.grading.judge import Status
from gradekit.grading.record import is_kept, read_record

#: What evidence of each kind means, for someone who has not read how it is found.
MEANING = {
    "canary": "The test was run again with a wrong answer in the place of the student's, and did not fail as it must.",
    "tampered": "Something that tests rely on was changed while the student's code ran.",
    "restored": "Something that tests rely on had been changed, and was put back before the test.",
    "frames": "Code that the test called looked at the test itself, where it could read what is expected.",
    "cut": "The line on which the kernel reports what it sees went dead.",
    "forged": "The kernel's reports are not what they must be, as if something else had written them.",
    "memory": "The notebook got hold of memory, or of native functions, around Python: that cannot be watched.",
    "audit": "The notebook asked to be told of what the interpreter does, the code of tests included.",
    "disguise": "The notebook gave its own code the name of a library's or a test's file.",
    "broken": "The guard itself failed at something that the notebook did. That may be a fault of the guard.",
    "weaker": "This Python shows less of what is changed and put back: see docs/decisions.md, 34.",
    "static": "Code worth reading. It holds no points by itself.",
}
TODO = (
    "Read the answer and what was found. If in doubt, run the notebook and its tests by hand, and talk to the student. "
    "Then give the points that were earned, 0 included, in the formgrader. Points stay at zero until you do."
)
_STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; max-width: 64rem; margin: 2rem auto; padding: 0 1rem; color: #1a1a1a }
pre { background: #f6f6f4; padding: .6rem; overflow-x: auto; font-size: 14px; line-height: 1.4 }
pre .n { color: #6b6b6b; user-select: none } article { border-top: 2px solid #ccc; padding-top: .5rem }
.done { color: #00509e } .held { color: #9c2b00; font-weight: 600 } summary { cursor: pointer }
:focus-visible { outline: 2px solid #0072b2 }
"""
#: Longer cells are cut: the notebook itself is in the formgrader.
LINES = 200


@dataclass(frozen=True)
class Case:
    """One notebook of a submission in which something was found.

    Attributes:
        held: the verdicts of held cells, as recorded.
        given: grade id -> the points that a person has given.
        evidence: as recorded: ``kind``, ``cell``, ``what`` and ``holds`` of each.
        place: the page of the notebook in the formgrader, below the server's address; empty when it is in no gradebook.
    """

    submission: Submission
    notebook: str
    held: tuple[dict[str, Any], ...]
    given: dict[str, float]
    evidence: tuple[dict[str, Any], ...]
    cells: tuple[NotebookNode, ...]
    place: str

    @property
    def waits(self) -> bool:
        """Whether a person still has to decide on points."""
        return any(verdict["grade_id"] not in self.given for verdict in self.held)


def write(course: Course, assignment: str) -> Path | None:
    """Write ``reports/held-<assignment>.html`` anew, or remove it when nothing was found. Returns where it lies.

    Raises:
        CourseError: the assignment is unknown.
    """
    course.require(assignment)
    found = list(cases(course, assignment))
    path = course.root / "reports" / f"held-{assignment}.html"
    if not found:
        path.unlink(missing_ok=True)
        return None
    path.parent.mkdir(exist_ok=True)
    path.write_text(page(assignment, found), encoding="utf-8", errors="replace")
    return path


def cases(course: Course, assignment: str) -> Iterator[Case]:
    """The notebooks of all graded submissions in which something was found, those with held points first."""
    found = []
    with Gradebook(course.db_url, course.course_id) as gradebook:
        for submission in course.submissions(assignment):
            record = read_record(course.path("autograded", assignment, submission.student)) or {"notebooks": []}
            for recorded in record["notebooks"]:
                held = tuple(verdict for verdict in recorded["verdicts"] if verdict["status"] == Status.HELD)
                evidence = tuple(one for one in recorded.get("evidence", []) if one["holds"] or one["kind"] == "static")
                if held or evidence:
                    row = _row(gradebook, submission, recorded["name"])
                    found.append(
                        _case(course, submission, recorded["name"], held, evidence, row, record.get("kept", {}))
                    )
    yield from sorted(found, key=lambda case: (not case.waits, not case.held, case.submission.student, case.notebook))


def _row(gradebook: Gradebook, submission: Submission, notebook: str) -> SubmittedNotebook | None:
    try:
        return gradebook.find_submission_notebook(notebook, submission.assignment, submission.student)
    except MissingEntry:
        return None


def _case(
    course: Course,
    submission: Submission,
    name: str,
    held: tuple[dict[str, Any], ...],
    evidence: tuple[dict[str, Any], ...],
    row: SubmittedNotebook | None,
    kept: Mapping[str, float],
) -> Case:
    decided = [g for g in row.grades if g.manual_score is not None and not is_kept(g, kept)] if row else []
    given = {grade.name: grade.manual_score for grade in decided}
    try:
        path = course.path("autograded", submission.assignment, submission.student) / f"{name}.ipynb"
        cells = tuple(read_notebook(path).cells)
    except CourseError:
        cells = ()
    place = f"formgrader/submissions/{row.id}" if row else ""
    return Case(submission, name, held, given, evidence, cells, place)


def page(assignment: str, found: list[Case]) -> str:
    """A self-contained page: no script, nothing fetched, everything that a student wrote as text."""
    waiting = [case for case in found if case.waits]
    decided = [case for case in found if case.held and not case.waits]
    others = [case for case in found if not case.held]
    sections = "".join(
        f"<section><h2>{title}: {len(part)}</h2>{''.join(map(_article, part))}</section>"
        for title, part in (
            ("Points wait for you", waiting),
            ("Decided", decided),
            ("Worth a look, no points held", others),
        )
        if part
    )
    cells = sum(verdict["grade_id"] not in case.given for case in waiting for verdict in case.held)
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>Held in {escape(assignment)}</title>'
        '<meta name="viewport" content="width=device-width">'
        "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">"
        f"<style>{_STYLE}</style></head><body><main><h1>Held in {escape(assignment)}</h1>"
        f"<p>The points of {cells} cells in {len(waiting)} notebooks wait for a person. {TODO}</p>"
        "<p>This page shows hidden tests and students' work: it is for staff. It was written when the assignment was "
        "last graded; <code>gradekit grade</code> writes it anew.</p>"
        f"{sections}</main></body></html>"
    )


def _article(case: Case) -> str:
    parts = [f"<article><h3>{escape(case.submission.student)}: {escape(case.notebook)}</h3>"]
    for verdict in case.held:
        grade_id, given = verdict["grade_id"], case.given.get(verdict["grade_id"])
        state = '<span class="held">held</span>' if given is None else f'<span class="done">{given:g} given</span>'
        would_be = verdict.get("would_be")
        earned = f", would be {would_be:g}" if would_be is not None else ""
        parts.append(f"<p><code>{escape(grade_id)}</code>: {state}{earned} of {verdict['points']:g} points</p>")
    parts.append("<ul>")
    for one in sorted(case.evidence, key=lambda one: not one["holds"]):
        kind, cell, what = escape(one["kind"]), escape(one["cell"]), escape(one["what"].rstrip("."))
        meaning = f" <small>{MEANING[kind]}</small>" if kind in MEANING else ""
        parts.append(f"<li><b>{kind}</b> in <code>{cell}</code>: {what}.{meaning}</li>")
    parts.append("</ul>")
    for name, source in _sources(case):
        parts.append(f"<details open><summary><code>{escape(name)}</code></summary>{_listing(source)}</details>")
    if case.place:
        student, notebook = escape(case.submission.student), escape(case.notebook)
        parts.append(
            f"<p>To decide: open JupyterLab, Formgrader, Manual Grading, {escape(case.submission.assignment)}, "
            f"{notebook}, the submission of {student}; its address ends in <code>/{escape(case.place)}</code>.</p>"
        )
    return "".join([*parts, "</article>"])


def _sources(case: Case) -> Iterator[tuple[str, str]]:
    """The cells that the evidence names, and above each held test the student's answer that it judges."""
    wanted = {one["cell"] for one in case.evidence}
    held = {verdict["grade_id"] for verdict in case.held}
    answer: str | None = None
    named = []
    for index, cell in enumerate(case.cells):
        if cell.cell_type != "code":
            continue
        name = cell.metadata.get("nbgrader", {}).get("grade_id") or f"cell {index}"
        named.append((name, cell.source))
        if role_of(cell) is Role.EXERCISE:
            answer = name
        elif name in held | wanted and answer is not None and role_of(cell) is Role.TEST:
            wanted |= {name, answer}
    yield from ((name, source) for name, source in named if name in wanted)


def _listing(source: str) -> str:
    lines = source.split("\n")
    width = len(str(min(len(lines), LINES)))
    shown = [f'<span class="n">{n:>{width}}</span>  {escape(line)}' for n, line in enumerate(lines[:LINES], 1)]
    if len(lines) > LINES:
        shown.append(f"({len(lines) - LINES} more lines)")
    return f"<pre>{chr(10).join(shown)}</pre>"
