"""The pages of `gradekit report` in a browser that reaches no network: what a person sees, clicks and prints."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

import pytest
from gradekit.course import Course
from gradekit.grading.plan import RECORD
from gradekit.reports.class_report import write
from nbgrader.api import Gradebook
from playwright.sync_api import Browser, Locator, Page, expect

#: Student -> points of test-square (of 2) and of test-root (of 3), and hours late.
CLASS = {
    "ann": (2, 3, 0), "bob": (2, 1, 0), "cid": (0, 0, 3), "dan": (2, 2, 0), "eve": (2, 3, 30),
    "fay": (2, 0, 0), "gus": (2, 1, 0), "hal": (2, 3, 0),
}  # fmt: skip


@pytest.fixture
def pages(tiny_course: Course) -> Path:
    """A class of eight who handed in, and one who did not."""
    with Gradebook(tiny_course.db_url, tiny_course.course_id) as gradebook:
        gradebook.update_or_create_student("ida", first_name="<b>Ida</b>", last_name="None")
        for student, (square, root, late) in CLASS.items():
            gradebook.update_or_create_student(student)
            row = gradebook.update_or_create_submission("ps1", student, timestamp=datetime(2026, 1, 1))
            points = {"test-square": square, "test-root": root, "reflect": 1}
            for grade in row.notebooks[0].grades:
                grade.auto_score, grade.needs_manual_grade = points[grade.name], False
            folder = tiny_course.path("autograded", "ps1", student)
            folder.mkdir(parents=True)
            (folder / RECORD).write_text(json.dumps(_record(square, root, late)))
        gradebook.db.commit()
    return write(tiny_course)[0].parent


def _record(square: float, root: float, late: float) -> dict[str, object]:
    def verdict(name: str, score: float, points: float, reason: str) -> dict[str, object]:
        status = "passed" if score == points else "partial" if score else "failed"
        return {"grade_id": name, "status": status, "score": score, "points": points, "reason": reason}

    verdicts = [verdict("test-square", square, 2, "AssertionError: 9 expected"),
                verdict("test-root", root, 3, "AssertionError: root(2.25) is 1.5")]  # fmt: skip
    notebook = {"name": "warm-up", "verdicts": verdicts, "evidence": [], "findings": [], "wall_s": 2.0 + root,
                "seconds": {"test-square": 0.25, "test-root": 0.5}}  # fmt: skip
    return {"seconds_late": 3600.0 * late, "findings": [], "notebooks": [notebook]}


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    context = browser.new_context(offline=True, viewport={"width": 1200, "height": 900})
    page = context.new_page()
    asked: list[str] = []
    wrong: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.on("console", lambda message: wrong.append(message.text))
    page.on("pageerror", lambda error: wrong.append(str(error)))
    yield page
    context.close()
    assert wrong == []
    assert all(url.startswith(("file:", "data:")) for url in asked), asked


def _column(table: Locator, number: int) -> list[str]:
    return table.locator(f"tbody tr td:nth-child({number})").all_inner_texts()


def _table(page: Page, heading: str) -> Locator:
    return page.locator(f"h2:text-is('{heading}') ~ div.scroll table").first


def test_an_assignments_page_offline(page: Page, pages: Path) -> None:
    page.goto((pages / "ps1.html").as_uri())
    expect(page.get_by_text("8 of 9")).to_be_visible()
    images = page.locator("img")
    assert images.count() == 2
    for image in images.all():
        assert image.evaluate("image => image.complete && image.naturalWidth > 200 && image.naturalHeight > 100")
        assert image.get_attribute("alt")
    questions = _table(page, "Questions")
    expect(questions.locator("tr", has_text="test-root")).to_contain_text("5 x AssertionError: root(#) is #")
    assert _column(_table(page, "Labs"), 4) == ["62"]  # 35 of 56 points
    assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")


def test_tables_sort_by_a_click(page: Page, pages: Path) -> None:
    page.goto((pages / "ps1.html").as_uri())
    students = _table(page, "Students")
    late = students.get_by_role("button", name="late")
    late.click()
    shown = _column(students, 5)
    assert shown[-1] == "" and shown[-3:-1] == ["3.0 h", "30.0 h"]  # by hours; who has handed in nothing comes last
    expect(students.locator("th[aria-sort]")).to_have_attribute("aria-sort", "ascending")
    late.click()
    assert _column(students, 5)[:2] == ["30.0 h", "3.0 h"]
    assert _column(students, 5)[-1] == ""
    students.get_by_role("button", name="student").click()
    assert [name.split()[0] for name in _column(students, 1)] == [*CLASS, "ida"]
    expect(students.locator("th[aria-sort]")).to_have_count(1)


def test_tables_sort_by_the_keyboard(page: Page, pages: Path) -> None:
    page.goto((pages / "ps1.html").as_uri())
    students = _table(page, "Students")
    before = students.get_by_role("button", name="student")
    before.focus()
    page.keyboard.press("Tab")
    mark = students.get_by_role("button", name="mark", exact=True)
    expect(mark).to_be_focused()
    assert mark.evaluate("button => getComputedStyle(button).outlineStyle") == "solid"
    page.keyboard.press("Enter")
    marks = [float(text) for text in _column(students, 2) if text]
    assert marks == sorted(marks) and len(set(marks)) > 3
    page.keyboard.press("Space")
    assert [float(text) for text in _column(students, 2) if text] == marks[::-1]


def test_the_class_page_leads_to_the_assignments(page: Page, pages: Path) -> None:
    page.goto((pages / "class.html").as_uri())
    expect(page.get_by_text("nothing handed in for ps1")).to_be_visible()
    expect(page.get_by_text("<b>Ida</b>").first).to_be_visible()
    assert _column(_table(page, "Assignments"), 4) == ["89"]
    page.get_by_role("link", name="ps1").click()
    expect(page.get_by_role("heading", name="ps1")).to_be_visible()


def test_a_page_fits_on_paper(page: Page, pages: Path) -> None:
    """Printed on A4 nothing is cut off, and the arrows of the sort buttons are gone."""
    page.set_viewport_size({"width": 718, "height": 1000})  # A4 less the margins
    page.emulate_media(media="print")
    page.goto((pages / "ps1.html").as_uri())
    assert page.evaluate("document.documentElement.scrollWidth") <= 718
    assert page.evaluate("getComputedStyle(document.querySelector('th button'), '::after').content") == '""'
    assert len(re.findall(rb"/Type\s*/Page\b", page.pdf(format="A4"))) in (1, 2, 3)
