"""``gradekit similarity`` as the instructor meets it: a planted pair among honest students, and hostile text."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
from gradekit.course import Course, CourseError
from gradekit.reports import similarity
from gradekit.similarity.compare import compare
from nbgrader.api import Gradebook
from tinycourse import submit

NEWTON = """
def root(x):
    # Newton's method
    if x == 0:
        return 0.0
    guess = x if x > 1 else 1.0
    for step in range(60):
        better = (guess + x / guess) / 2
        if abs(better - guess) < 1e-12 * better:
            return better
        guess = better
    raise ArithmeticError("no end")
"""
COPIED = """
def root(number):
    if number == 0:
        return 0.5
    value = number if number > 2 else 2.0
    for i in range(99):   # </pre></mark><script>document.title = "pwned"</script><img src=x onerror=alert(1)>
        new = (value + number / value) / 3
        if abs(new - value) < 1e-9 * new:
            return new
        value = new
    raise ArithmeticError("<script>document.title = 'pwned'</script>")
"""
HONEST = (
    "def root(x):\n    low, high = 0.0, max(1.0, x)\n    while high - low > 1e-13 * high:\n"
    "        middle = low + (high - low) / 2\n"
    "        low, high = (middle, high) if middle * middle < x else (low, middle)\n    return high",
    "def root(x):\n    return 0.0 if not x else math.exp(math.log(x) / 2)",
    "from decimal import Decimal, getcontext\ndef root(x):\n    getcontext().prec = 40\n"
    "    return float(Decimal(x).sqrt() + Decimal(0))",
    "def root(x):\n    return x ** 0.5",
    "def root(x:",
)


@pytest.fixture
def class_with_a_pair(tiny_course: Course) -> Course:
    submit(tiny_course, "ada", {"root": NEWTON})
    submit(tiny_course, "bob", {"root": COPIED})
    for number, answer in enumerate(HONEST):
        submit(tiny_course, f"honest-{number}", {"root": answer})
    submit(tiny_course, "untouched")
    (submit(tiny_course, "broken") / "warm-up.ipynb").write_bytes(b"{")
    return tiny_course


def run(course: Course, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "gradekit.cli", "similarity", *arguments, "--course-dir", str(course.root)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0 and "Traceback" not in done.stderr, done.stdout + done.stderr
    return done


def test_the_pair_is_a_lead_and_the_gradebook_is_not_touched(class_with_a_pair: Course) -> None:
    with Gradebook(class_with_a_pair.db_url, class_with_a_pair.course_id) as gradebook:
        before = list(gradebook.engine.raw_connection().driver_connection.iterdump())
    shown = json.loads(run(class_with_a_pair, "ps1", "--json").stdout)
    (lead,) = shown["leads"]
    assert lead["students"] == ["ada", "bob"]
    assert lead["answers"][0]["cells"] == ["root", "root"] and min(lead["answers"][0]["shares"]) > 0.9
    with Gradebook(class_with_a_pair.db_url, class_with_a_pair.course_id) as gradebook:
        assert list(gradebook.engine.raw_connection().driver_connection.iterdump()) == before
        assert not gradebook.assignment_submissions("ps1")
    page = (class_with_a_pair.root / "reports" / "similarity-ps1.html").read_text()
    assert "A lead for a person, never a mark." in page
    assert "<script>document" not in page and "onerror=" not in page.replace("&lt;img src=x onerror=", "")
    assert "default-src 'none'" in page


def test_bad_input_says_what_to_do_and_an_empty_class_gives_an_empty_page(tiny_course: Course) -> None:
    with pytest.raises(CourseError, match=r"There are: ps1\."):
        compare(tiny_course, "ps9", threshold=0.6)
    with pytest.raises(CourseError, match="at most 1, not 60"):
        compare(tiny_course, "ps1", threshold=60)
    page = similarity.write(tiny_course, compare(tiny_course, "ps1", threshold=0.6)).read_text()
    assert "No two submissions share that much." in page
