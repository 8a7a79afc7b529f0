"""A TA's day in nbgrader's own formgrader: from the list of assignments through every submission of a notebook."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from gradekit.bench.formgrader import CALLS, OURS, PAGES, Server, served
from gradekit.course import Course
from gradekit.grading.local import LocalGrader
from gradekit.reports.feedback import give_feedback
from nbgrader.api import Gradebook
from playwright.sync_api import Browser, Page, expect
from tinycourse import RIGHT, TINY_LAB, build_course, submit

HOSTILE = """It got faster.
<script>window.pwned = 1</script><img src=x onerror="window.pwned = 2"><svg onload="window.pwned = 3"></svg>
<a id=link href="javascript:window.pwned = 4">a link</a><iframe srcdoc="<script>parent.pwned = 5</script>"></iframe>
<style>.gk, .score { display: none }</style>
"""
#: Looks at the test that calls it: its points are held.
LOOKS = "def square(x):\n    import sys\n    sys._getframe(1)\n    return x * x"
SCHEME = """# What did you notice?
#
# ### BEGIN SOLUTION
# Twice as fast.
#
# ### BEGIN MARK SCHEME
# - One point for a measurement.
# - One point for a reason.
# ### END MARK SCHEME
# ### END SOLUTION
"""


@pytest.fixture(scope="module")
def course(tmp_path_factory: pytest.TempPathFactory) -> Course:
    """Three have handed in and are graded: ann writes HTML, eve's square is held, cid is honest."""
    from nbgrader.apps.api import NbGraderAPI

    root = tmp_path_factory.mktemp("ta") / "course"
    start = TINY_LAB.index("# What did you notice?")
    built = build_course(root, TINY_LAB[:start] + SCHEME)
    with (root / "nbgrader_config.py").open("a") as config:
        config.write(OURS)
    course = Course.open(root)
    assert NbGraderAPI(built.directory, config=built.config).generate_assignment("ps1")["success"]
    submit(course, "ann", {**RIGHT, "reflect": HOSTILE})
    submit(course, "cid", RIGHT)
    submit(course, "eve", {**RIGHT, "square": LOOKS})
    _grade(course)
    return course


@pytest.fixture(scope="module")
def server(course: Course) -> Iterator[Server]:
    with served(course.root) as server:
        yield server


@pytest.fixture
def page(browser: Browser, server: Server) -> Iterator[Page]:
    """A TA's browser, signed in at the list of assignments. Nothing but the server can be reached."""
    context = browser.new_context(viewport={"width": 1200, "height": 800})
    context.route(lambda url: not url.startswith(server.address), lambda route: route.abort())
    page = context.new_page()
    page.goto(f"{server.url('gradebook')}?token={server.token}")
    yield page
    context.close()


def _grade(course: Course) -> None:
    with LocalGrader(1) as grader:
        assert not grader.grade(course, "ps1", force=True).failed


def _given(course: Course) -> dict[str, dict[str, float | None]]:
    """Student -> grade id -> the points that a person has given."""
    with Gradebook(course.db_url, course.course_id) as gradebook:
        works = gradebook.notebook_submissions("warm-up", "ps1")
        return {work.student.id: {grade.name: grade.manual_score for grade in work.grades} for work in works}


def _comments(course: Course) -> dict[str, str | None]:
    with Gradebook(course.db_url, course.course_id) as gradebook:
        works = gradebook.notebook_submissions("warm-up", "ps1")
        return {w.student.id: c.manual_comment for w in works for c in w.comments if c.name == "reflect"}


def _type(page: Page, box: str, text: str) -> None:
    """Type into a box of the formgrader, which saves it when it is left."""
    _loaded(page)
    with page.expect_response(lambda answer: answer.request.method == "PUT") as saved:
        page.locator(f"[id='{box}']").press_sequentially(text)
        page.keyboard.press("Tab")
    assert saved.value.ok


def _loaded(page: Page) -> None:
    """The formgrader has asked for points and comments after its page."""
    page.wait_for_function(
        "() => window.formgrader && formgrader.loaded && formgrader.grades.loaded && formgrader.comments.loaded"
    )


def _each(page: Page) -> Iterator[int]:
    """Open the three submissions in turn; behind the last one the list is shown again."""
    page.get_by_role("link", name="ps1").click()
    page.get_by_role("link", name="warm-up").click()
    page.get_by_role("link", name="Submission #1").click()
    for number in (1, 2, 3):
        expect(page.get_by_text(f"Submission {number} / 3")).to_be_visible()
        _loaded(page)
        yield number
        page.get_by_role("link", name="Next").click()


def test_a_ta_marks_every_reflection_beside_its_scheme(page: Page, course: Course) -> None:
    for number in _each(page):
        scheme = page.locator(".gk-scheme")
        expect(scheme.get_by_text("One point for a measurement.")).to_be_visible()
        expect(scheme.get_by_text("Twice as fast.")).to_be_hidden()  # folded
        answer = page.locator(".nbgrader_cell", has=page.locator("#reflect")).bounding_box()
        panel = scheme.bounding_box()
        assert answer and panel
        assert panel["x"] >= answer["x"] + answer["width"]
        assert abs(panel["y"] - answer["y"]) < 60
        _type(page, "reflect", str(number / 2))
        _type(page, "reflect-comment", f"A comment on no. {number}: why?")
    expect(page.get_by_role("link", name="Submission #1")).to_be_visible()  # the list again, behind the last one
    assert sorted(given["reflect"] or 0 for given in _given(course).values()) == [0.5, 1, 1.5]
    assert sorted(filter(None, _comments(course).values())) == [f"A comment on no. {k}: why?" for k in (1, 2, 3)]


def test_held_points_are_given_by_hand_and_stay(page: Page, course: Course) -> None:
    next(number for number in _each(page) if page.locator(".gk.held").count())
    page.get_by_role("link", name="test-square").click()  # from the summary at the top of the page
    found = page.locator(".gk.held", has_text="Held for a person: test-square, would be 2 of 2 points")
    expect(found).to_be_in_viewport()
    expect(found).to_contain_text("frames")
    expect(found).to_contain_text("0 included")
    box = page.locator("#test-square")
    expect(box).to_have_class("score tabbable needs_manual_grade")
    _type(page, "test-square", "1.5")
    expect(box).not_to_have_class("score tabbable needs_manual_grade")
    before = _given(course)
    assert before["eve"]["test-square"] == 1.5
    _grade(course)
    assert _given(course) == before
    page.reload()
    expect(box).to_have_value("1.5")


def test_what_a_student_wrote_runs_nowhere(page: Page, server: Server) -> None:
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    next(number for number in _each(page) if page.get_by_text("a link").count())
    page.get_by_text("a link").click()
    page.wait_for_load_state("networkidle")
    assert page.evaluate("window.pwned") is None
    assert page.locator("iframe").count() == 0
    expect(page.locator(".gk-scheme")).to_be_visible()
    expect(page.locator("#reflect")).to_be_visible()
    hosts = {url for url in asked if not url.startswith(server.address)}
    assert all("cdnjs.cloudflare.com" in url for url in hosts), hosts  # MathJax, which nbgrader's page asks for


def test_without_a_way_to_mathjax_the_keys_work(page: Page) -> None:
    """The formgrader's script waits for MathJax, and stops where there is none."""
    wrong: list[str] = []
    page.on("pageerror", lambda error: wrong.append(str(error)))
    next(_each(page))
    page.keyboard.press("Control+.")
    expect(page.get_by_text("Submission 2 / 3")).to_be_visible()
    assert wrong == []


def test_students_see_no_scheme_and_no_evidence(course: Course) -> None:
    assert all(not one.error for one in give_feedback(course, "ps1", force=True))
    pages = list(course.root.glob("feedback/*/ps1/*.html"))
    released = list(Path(course.path("release", "ps1")).rglob("*.*"))
    assert len(pages) == 3 and released
    for path in pages + released:
        text = path.read_text()
        assert "One point for" not in text and "gk-scheme" not in text and "frames of its callers" not in text


def test_the_benchmark_opens_every_page() -> None:
    program = (
        "import json\nfrom gradekit.bench.formgrader import Class, measure\n"
        "print(json.dumps(measure(Class(students=2, assignments=1, notebooks=1, tests=1, answers=1))))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    figures = json.loads(done.stdout)
    assert figures["marked_cells"] == 4
    assert set(figures["pages"]) == set(PAGES) and set(figures["calls"]) == set(CALLS)
    assert all(0 < value < 60 for row in figures["pages"].values() for value in row.values())
    assert all(row["stock_statements"] >= row["ours_statements"] - 5 > 0 for row in figures["calls"].values())
