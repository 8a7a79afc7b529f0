"""The page on similar answers in a browser: what students wrote is shown, and nothing of it runs."""

from __future__ import annotations

from pathlib import Path

from gradekit.course import Course
from gradekit.reports import similarity
from gradekit.similarity.compare import compare
from playwright.sync_api import Browser
from tinycourse import submit

ANSWER = """
def root(x):
    guess = x if x > 1 else 1.0
    for step in range(60):  # {comment}
        better = (guess + x / guess) / 2
        if abs(better - guess) < 1e-12 * better:
            return better
        guess = better
    raise ArithmeticError("{text}")
"""
HOSTILE = "</pre></mark></article><script>document.title = 'pwned'</script><img src=x onerror=document.title='pwned'>"


def test_side_by_side_and_nothing_runs(tiny_course: Course, browser: Browser) -> None:
    submit(tiny_course, "ada", {"root": ANSWER.format(comment="Newton", text="no end")})
    submit(tiny_course, "bob", {"root": ANSWER.format(comment=HOSTILE, text=HOSTILE)})
    submit(tiny_course, "eve", {"root": "def root(x):\n    return x ** 0.5"})
    path = similarity.write(tiny_course, compare(tiny_course, "ps1", threshold=0.6))
    page = browser.new_page()
    requests: list[str] = []
    page.on("request", lambda request: requests.append(request.url))
    page.goto(Path(path).as_uri())
    assert page.title() == "Similar answers in ps1"
    assert requests == [Path(path).as_uri()]
    assert page.locator("article").count() == 1 and page.locator("article img, article script").count() == 0
    marks = page.locator(".pair > div:nth-child(2) mark")
    assert "abs(better - guess)" in " ".join(marks.all_inner_texts())
    left, right = (page.locator(".pair > div").nth(n).bounding_box() for n in (0, 1))
    assert left and right and left["y"] == right["y"] and left["x"] + left["width"] <= right["x"]
    assert HOSTILE in page.locator(".pair > div").nth(1).inner_text()
    page.close()
