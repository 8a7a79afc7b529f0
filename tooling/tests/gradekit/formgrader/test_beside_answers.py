"""What a TA reads in the formgrader beside an answer: mark schemes and findings; students' pages have none of it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

import nbformat
import pytest
from bs4 import BeautifulSoup
from gradekit.course import Course
from gradekit.formgrader.beside import Beside
from gradekit.grading.plan import RECORD
from gradekit.integrity.evidence import Evidence
from nbconvert.exporters import HTMLExporter
from nbgrader.server_extensions.formgrader import handlers
from tinycourse import CONFIG, submit

EVIL = "<img src=x onerror=alert(1)><script>alert(1)</script>"
SCHEME = """How fast is it?

### BEGIN SOLUTION
Twice as fast, **see above**.

### BEGIN MARK SCHEME
- 1 point: a measurement.
### END MARK SCHEME
### END SOLUTION
"""
LINES = """
c.HTMLExporter.preprocessors = ["gradekit.reports.safe_html.Sanitize", "gradekit.formgrader.beside.Beside"]
c.HTMLExporter.filters = {"markdown2html": "gradekit.reports.safe_html.markdown2html"}
"""


@pytest.fixture
def course(tiny_course: Course) -> Iterator[Course]:
    """Ann has handed in; her autograded notebook is her submission, and nothing was found in it."""
    root = tiny_course.root
    (root / "nbgrader_config.py").write_text(CONFIG.format(exchange=str(root / "exchange")) + LINES)
    folder = submit(tiny_course, "ann", {"reflect": f"It got faster. {EVIL}"})
    _put_source(tiny_course, "reflect", SCHEME)
    place = tiny_course.path("autograded", "ps1", "ann")
    place.parent.mkdir(parents=True)
    folder.rename(place)
    yield Course.open(root)


def _put_source(course: Course, grade_id: str, text: str, **meta: Any) -> None:
    path = course.path("source", "ps1") / "warm-up.ipynb"
    notebook = nbformat.read(path, as_version=4)
    for cell in notebook.cells:
        if cell.metadata.get("nbgrader", {}).get("grade_id") == grade_id:
            cell.source = text
            cell.metadata.nbgrader.update(meta)
    nbformat.write(notebook, path)


def _record(course: Course, evidence: list[Evidence], held: str = "", findings: tuple[str, ...] = ()) -> None:
    verdicts = [{"grade_id": name, "status": "held" if name == held else "passed", "score": 0.0, "points": 2.0,
                 "reason": "", "would_be": 1.5} for name in ("test-square", "test-root")]  # fmt: skip
    notebook = {"name": "warm-up", "verdicts": verdicts, "evidence": [asdict(one) for one in evidence],
                "findings": list(findings)}  # fmt: skip
    record = {"notebooks": [notebook], "findings": ["a link was left out"] if findings else []}
    (course.path("autograded", "ps1", "ann") / RECORD).write_text(json.dumps(record))


def _page(course: Course, **more: Any) -> BeautifulSoup:
    """As the formgrader makes it: see its ``SubmissionHandler``."""
    config = course.config.copy()
    config.HTMLExporter.template_name = "formgrade"
    config.HTMLExporter.extra_template_basedirs = [handlers.template_path]
    resources = {"assignment_id": "ps1", "notebook_id": "warm-up", "submission_id": "x", "index": 0, "total": 1,
                 "base_url": "", "student": "ann", "last_name": "", "first_name": "",
                 "notebook_path": "warm-up.ipynb", **more}  # fmt: skip
    path = course.path("autograded", "ps1", "ann") / "warm-up.ipynb"
    page, _ = HTMLExporter(config=config).from_filename(str(path), resources=resources)
    return BeautifulSoup(page, "html.parser")


def _panel_of(page: BeautifulSoup, grade_id: str) -> BeautifulSoup:
    """The panel in front of a marked cell."""
    return page.find(id=grade_id).find_parent(class_="cell").find_previous_sibling(class_="cell").aside


def test_the_scheme_stands_beside_its_answer(course: Course) -> None:
    page = _page(course)
    panel = _panel_of(page, "reflect")
    assert [title.text for title in panel(["h5", "summary"])] == [
        "The question, as released", "Mark scheme", "The instructor's answer"]  # fmt: skip
    assert [item.text for item in panel("li")] == ["1 point: a measurement."]
    assert panel.find("strong").text == "see above"
    assert "BEGIN" not in panel.text and "END" not in panel.text
    assert len(page(class_="gk-scheme")) == 1
    assert "It got faster." in page.text and "onerror" not in str(page)


def test_a_cell_without_markers_is_all_for_the_ta(course: Course) -> None:
    _put_source(course, "reflect", "Look for a number.")
    panel = _panel_of(_page(course), "reflect")
    assert [title.text for title in panel(["h5", "summary"])] == ["The instructor's answer"]
    assert panel.details.has_attr("open") and "Look for a number." in panel.text


def test_a_tasks_scheme_is_shown_without_its_question_as_answer(course: Course) -> None:
    text = "Draw it.\n\n### BEGIN MARK SCHEME\nAxes: 1 point.\n### END MARK SCHEME"
    _put_source(course, "reflect", text, task=True, grade=False, solution=False)
    panel = _panel_of(_page(course), "reflect")
    assert [title.text for title in panel(["h5", "summary"])] == ["The question, as released", "Mark scheme"]
    assert "Axes: 1 point." in panel.text


def test_the_scheme_is_read_when_the_page_is_opened(course: Course) -> None:
    assert "a measurement" in _page(course).text
    _put_source(course, "reflect", SCHEME.replace("a measurement", "two measurements"))
    assert "two measurements" in _page(course).text
    (course.path("source", "ps1") / "warm-up.ipynb").unlink()
    assert not _page(course)(class_="gk-scheme")


def test_a_held_test_says_what_was_found_and_what_to_do(course: Course) -> None:
    canary = Evidence("canary", "test-square", f"passed with the empty stub. {EVIL} $x$", True)
    before = Evidence("memory", "square", "took hold of memory", True)
    behind = Evidence("memory", "test-root", "not about it", True)
    put_right = Evidence("restored", "imports", "print was put back", False)
    _record(course, [canary, before, behind, put_right], held="test-square")
    page = _page(course)
    panel = _panel_of(page, "test-square")
    assert "Held for a person: test-square, would be 1.5 of 2 points" in panel.text
    assert "0 included" in panel.text
    assert [item.b.text for item in panel("li")] == ["canary", "memory"]
    assert "did not fail as it must" in panel.text and EVIL in panel.text  # as text
    assert "tex2jax_ignore" in panel["class"] and "put back" not in page.text
    top = page.find("aside")
    assert "1 held: points wait for you" in top.text
    for link in top("a"):
        assert page.find(id=link["href"][1:]), link
    assert [link.text for link in top("a")] == ["square", "test-square", "test-root"]


def test_what_holds_nothing_is_a_lead(course: Course) -> None:
    added = Evidence("static", "cell 0", "line 1: reads the stack of calls", False)
    _record(course, [added], findings=(f"deleted cell put back {EVIL}",))
    page = _page(course)
    top = page.find("aside")
    assert "Worth a look" in top.text and "held" not in top.text
    assert [item.text for item in top("li")] == ["a link was left out", f"deleted cell put back {EVIL}"]
    assert page.find(id="gk-cell-0").find_parent(class_="cell").find_next_sibling(class_="cell").h1


def test_a_submission_with_nothing_to_say_has_no_panel(course: Course) -> None:
    _record(course, [])
    assert [panel["aria-label"] for panel in _page(course)("aside")] == ["Mark scheme"]


def test_students_get_nothing_of_it(course: Course) -> None:
    """nbgrader's converters, feedback's among them, say so with ``nbgrader``."""
    _record(course, [Evidence("canary", "test-square", "seen", True)], held="test-square")
    assert not _page(course, nbgrader={"student": "ann"})("aside")
    names = {"nbgrader": {"student": "ann", "assignment": "ps1", "notebook": "warm-up"}}
    plain = nbformat.v4.new_notebook()
    assert Beside(config=course.config).preprocess(plain, names)[0] is plain


def test_an_old_notebook_without_cell_ids_stays_valid(course: Course) -> None:
    notebook = nbformat.v4.new_notebook(nbformat_minor=4, cells=[])
    folder = str(course.path("autograded", "ps1", "ann"))
    names = {"submission_id": "x", "assignment_id": "ps1", "notebook_id": "warm-up", "student": "ann"}
    shown, _ = Beside(config=course.config).preprocess(notebook, {**names, "metadata": {"path": folder}})
    assert len(shown.cells) == 1
    nbformat.validate(shown)
