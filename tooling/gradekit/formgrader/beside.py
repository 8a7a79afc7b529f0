"""What a TA needs beside an answer: its mark scheme, what was found in it, and what holds its points.

It goes into the formgrader's exporter, so that the stock formgrader shows it (``nbgrader_config.py``)::

    c.HTMLExporter.preprocessors = ["gradekit.reports.safe_html.Sanitize", "gradekit.formgrader.beside.Beside"]
    c.HTMLExporter.filters = {"markdown2html": "gradekit.reports.safe_html.markdown2html"}

Everything is read when a page is opened: the schemes from the instructor's notebook, the findings from the record that
grading keeps. Feedback, which shares the exporter's configuration, gets nothing of it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup
from nbconvert.preprocessors import Preprocessor
from nbformat import NotebookNode
from nbformat.v4 import new_markdown_cell
from nbgrader.coursedir import CourseDirectory
from nbgrader.preprocessors import ClearMarkScheme, ClearSolutions
from traitlets.config import Config

from gradekit.course import CourseError, Role, read_notebook, role_of
from gradekit.grading.judge import Status
from gradekit.grading.record import read_record
from gradekit.reports.held import MEANING
from gradekit.reports.safe_html import render

_TEMPLATES = Environment(
    loader=PackageLoader("gradekit.formgrader"), autoescape=True, undefined=StrictUndefined, trim_blocks=True,
    lstrip_blocks=True,
)  # fmt: skip


class Beside(Preprocessor):
    """Put panels for staff into the page of a submission, in front of the cells that they are about."""

    def preprocess(self, nb: NotebookNode, resources: Any) -> tuple[NotebookNode, Any]:
        place = _place(resources, self.config)
        if place is None:
            return nb, resources
        found = _findings(place)
        schemes = _schemes(place, self.config)
        names = [_name(cell, index) for index, cell in enumerate(nb.cells)]
        panels = {name: list(_panels(found, schemes, name, names)) for name in names}
        cells = [self._cell(nb, _page("summary", found=found, anchors=[name for name in names if found.about(name)]))]
        for name, cell in zip(names, nb.cells, strict=True):
            cells += [self._cell(nb, panel) for panel in panels[name]]
            cells.append(cell)
        return NotebookNode(nb, cells=cells), resources

    def _cell(self, nb: NotebookNode, panel: Markup) -> NotebookNode:
        cell = new_markdown_cell(panel)
        if nb.nbformat_minor < 5:
            del cell["id"]
        return cell


@dataclass(frozen=True)
class _Place:
    """A notebook of a submission, as the formgrader names it."""

    course: CourseDirectory
    assignment: str
    notebook: str
    folder: Path


def _place(resources: Mapping[str, Any], config: Config) -> _Place | None:
    """Where the page's notebook lies; None for any page that is not the formgrader's."""
    if "submission_id" not in resources or "nbgrader" in resources:
        return None
    folder = Path(resources.get("metadata", {}).get("path", ""))
    assignment, notebook, student = (resources[key] for key in ("assignment_id", "notebook_id", "student"))
    for root in folder.parents:  # the server may have been started elsewhere, and serve several courses
        course = CourseDirectory(config=config, root=str(root))
        if Path(course.format_path(course.autograded_directory, student, assignment)) == folder:
            return _Place(course, assignment, notebook, folder)
    return None


def _name(cell: NotebookNode, index: int) -> str:
    """A cell as evidence calls it."""
    return cell.metadata.get("nbgrader", {}).get("grade_id") or f"cell {index}"


def _page(template: str, **shown: Any) -> Markup:
    return Markup(_TEMPLATES.get_template(f"{template}.html.j2").render(meaning=MEANING, **shown))


def _panels(found: _Findings, schemes: Mapping[str, _Scheme], name: str, names: Sequence[str]) -> Iterator[Markup]:
    if found.about(name):
        yield _page("found", name=name, verdict=found.held.get(name), evidence=found.of(name, names))
    if name in schemes:
        yield _page("scheme", scheme=schemes[name])


# -- mark schemes ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Scheme:
    """What the instructor wrote for those who mark an answer, as HTML; each may be empty."""

    question: Markup
    scheme: Markup
    answer: Markup


def _schemes(place: _Place, config: Config) -> dict[str, _Scheme]:
    """The schemes of an instructor's notebook, by grade id; none when it is not there any more."""
    source = Path(place.course.format_path(place.course.source_directory, ".", place.assignment))
    try:
        notebook = read_notebook(source / f"{place.notebook}.ipynb")
    except CourseError:
        return {}
    solution = ClearSolutions(config=Config(ClearSolutions=config.ClearSolutions))
    scheme = ClearMarkScheme(config=Config(ClearMarkScheme=config.ClearMarkScheme))
    found = {}
    for cell in notebook.cells:
        if role_of(cell) is not Role.MANUAL:
            continue
        question, answer = "", cell.source
        if solution.begin_solution_delimeter in answer:  # what stands outside is released, and students type over it
            answer, question = _cut(answer, solution.begin_solution_delimeter, solution.end_solution_delimeter)
        marks, answer = _cut(answer, scheme.begin_mark_scheme_delimeter, scheme.end_mark_scheme_delimeter)
        if cell.metadata.nbgrader.get("task"):
            question, answer = answer, ""
        if cell.cell_type == "code":
            question, answer = (f"```python\n{text}\n```" if text else "" for text in (question, answer))
        if marks or answer:
            parts = (Markup(render(text, cell.get("attachments"))) for text in (question, marks, answer))
            found[cell.metadata.nbgrader.grade_id] = _Scheme(*parts)
    return found


def _cut(text: str, begin: str, end: str) -> tuple[str, str]:
    """The lines between markers, and all others; the lines with the markers are in neither."""
    inside: list[str] = []
    outside: list[str] = []
    within = False
    for line in text.split("\n"):
        if not within and begin in line:
            within = True
        elif within and end in line:
            within = False
        else:
            (inside if within else outside).append(line)
    return "\n".join(inside).strip("\n"), "\n".join(outside).strip("\n")


# -- what was found ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Findings:
    """What grading kept about one notebook.

    Attributes:
        held: grade id -> the recorded verdict of a test whose points are held.
        graded: the grade ids that are worth points.
        evidence: as recorded, without what was put right and holds nothing.
        remarks: sentences on the notebook and the submission as a whole.
    """

    held: Mapping[str, Mapping[str, Any]]
    graded: frozenset[str]
    evidence: Sequence[Mapping[str, Any]]
    remarks: Sequence[str]

    def about(self, name: str) -> bool:
        return name in self.held or any(one["cell"] == name for one in self.evidence)

    def of(self, name: str, names: Sequence[str]) -> list[Mapping[str, Any]]:
        """What was found in a cell and, when its points are held, in the unmarked cells before it (see ``hold``)."""
        place = {cell: index for index, cell in enumerate(names)}

        def behind(one: Mapping[str, Any]) -> bool:
            unmarked = one["holds"] and one["cell"] not in self.graded
            return name in self.held and unmarked and place.get(one["cell"], 0) <= place[name]

        return [one for one in self.evidence if one["cell"] == name or behind(one)]


def _findings(place: _Place) -> _Findings:
    record = read_record(place.folder) or {"notebooks": [], "findings": []}
    recorded = next((one for one in record["notebooks"] if one["name"] == place.notebook), None)
    if recorded is None:
        return _Findings({}, frozenset(), (), record["findings"])
    verdicts = {verdict["grade_id"]: verdict for verdict in recorded["verdicts"]}
    return _Findings(
        held={name: verdict for name, verdict in verdicts.items() if verdict["status"] == Status.HELD},
        graded=frozenset(verdicts),
        evidence=[one for one in recorded.get("evidence", []) if one["holds"] or one["kind"] == "static"],
        remarks=[*record["findings"], *recorded["findings"]],
    )
