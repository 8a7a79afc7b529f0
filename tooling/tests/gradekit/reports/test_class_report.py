"""The pages on a class: their figures are the gradebook's, and they fetch and run nothing of others."""

from __future__ import annotations

import base64
import hashlib
import html
import re
from pathlib import Path

import pytest
from gradekit.course import Course, CourseError
from gradekit.grading.local import LocalGrader
from gradekit.reports.class_report import write
from nbgrader.api import Gradebook
from tinycourse import RIGHT, build_course, submit

NASTY = '<script>alert("x")</script>'


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    from nbgrader.apps.api import NbGraderAPI

    course = build_course(tmp_path_factory.mktemp("report") / "course")
    assert NbGraderAPI(course.directory, config=course.config).generate_assignment("ps1")["success"]
    with Gradebook(course.db_url, course.course_id) as gradebook:
        gradebook.update_or_create_assignment("ps1", duedate="2026-01-02 00:00:00 UTC")
        gradebook.update_or_create_student("nobody", first_name=NASTY, last_name="None")
    submit(course, "right", RIGHT)
    submit(course, "wrong", {"square": f"def square(x):\n    raise ValueError({NASTY!r})"})
    submit(course, "late", RIGHT, when="2026-01-03 12:00:00 UTC")
    with LocalGrader(2) as grader:
        assert not grader.grade(course, "ps1").failed
    written = write(course)
    assert [path.name for path in written] == ["ps1.html", "class.html"]
    return {path.stem: path.read_text(encoding="utf-8") for path in written}


def cells(page: str, first: str) -> list[str]:
    """The texts of the table row whose first cell begins with ``first``."""
    rows = re.findall(r"<tr>(.*?)</tr>", page, re.DOTALL)
    cut = [re.findall(r"<td.*?</td>", row, re.DOTALL) for row in rows]
    texts = [[html.unescape(re.sub(r"<[^>]+>", "", cell)).strip() for cell in row] for row in cut]
    (row,) = [row for row in texts if row and row[0].startswith(first)]
    return row


def test_an_assignment_s_figures(pages: dict[str, str]) -> None:
    page = pages["ps1"]
    assert "3 of 4" in page
    assert cells(page, "right")[1:3] == ["5", "71"]
    assert cells(page, "late")[4] == "36.0 h"
    assert cells(page, "nobody")[1:] == [""] * 7
    assert all(f'<code class="w">{name}</code>' in page for name in ("reflect", "test-root", "test-square"))
    assert "1 x ValueError" in page


def test_the_class_page(pages: dict[str, str]) -> None:
    page = pages["class"]
    assert cells(page, "ps1")[1:5] == ["7", "3", "75", "71"]
    assert cells(page, "right")[1] == "5" and cells(page, "nobody")[1] == ""
    assert "nothing handed in for ps1" in page


@pytest.mark.parametrize("name", ["ps1", "class"])
def test_a_page_stands_alone_and_trusts_nobody(pages: dict[str, str], name: str) -> None:
    page = pages[name]
    assert NASTY not in page and "&lt;script&gt;" in page
    assert not re.findall(r"""(?:src|href)=["'](?!data:image/svg|(?:ps1|class|held-ps1)\.html)""", page)
    (script,) = re.findall(r"<script>(.*?)</script>", page, re.DOTALL)
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert f"script-src 'sha256-{digest}'" in page and "default-src 'none'" in page


def test_pictures_have_words_beside_them(pages: dict[str, str]) -> None:
    pictures = re.findall(r"<img [^>]*>", pages["ps1"])
    assert len(pictures) == 2 and all('alt="' in picture for picture in pictures)
    for picture in pictures:
        svg = base64.b64decode(re.findall(r"base64,([^\"]*)", picture)[0]).decode()
        assert svg.rstrip().endswith("</svg>") and "href=\"http" not in svg


def test_bad_input_says_what_to_do(tmp_path: Path) -> None:
    course = build_course(tmp_path / "course")
    with pytest.raises(CourseError, match="no gradebook yet"):
        write(course)


def test_an_assignment_that_the_gradebook_does_not_have(tiny_course: Course) -> None:
    with pytest.raises(CourseError, match="no assignment 'ps9'"):
        write(tiny_course, ["ps9"])
    assert not (tiny_course.root / "reports").exists()
    assert [path.name for path in write(tiny_course, ["ps1"])] == ["ps1.html", "class.html"]
