"""Feedback of a really graded class: the hidden tests stay hidden, whatever a student does, and help all the same."""

from __future__ import annotations

import html
import re
from collections.abc import Iterator
from pathlib import Path

import nbformat
import pytest
from gradekit.course import Course
from gradekit.grading.local import LocalGrader
from gradekit.reports.feedback import give_feedback
from gradekit.reports.page import HELD, NOTE_FOR_STAFF
from nbgrader.apps.api import NbGraderAPI
from tinycourse import build_course, submit

CELL = '# %% nbgrader={{"grade": {grade}, "grade_id": "{name}", "locked": {locked}, {points}"schema_version": 3, ' \
       '"solution": {solution}, "task": false}}\n'  # fmt: skip
EXERCISE = {"grade": "false", "locked": "false", "points": "", "solution": "true"}
TEST = {"grade": "true", "locked": "true", "points": '"points": 2, ', "solution": "false"}
LAB = f"""\
# %% [markdown]
# # Warm-up

{CELL.format(name="imports", **{**TEST, "grade": "false", "points": ""})}\
from labkit import checking

{CELL.format(name="twice", **EXERCISE)}\
def twice(x):
    ### BEGIN SOLUTION
    return 2 * x
    ### END SOLUTION

{CELL.format(name="test-twice", **TEST)}\
assert twice(2) == 4

{CELL.format(name="square", **EXERCISE)}\
def square(x):
    ### BEGIN SOLUTION
    return x * x
    ### END SOLUTION

{CELL.format(name="test-square", **TEST)}\
def helper(x, y):
    assert square(x) == y, f"square of {{x}}: {{square(x)}}"


def test_square():
    helper(3, 9)
    ### BEGIN HIDDEN TESTS
    # check: negative numbers
    # hint: minus times minus is plus
    helper(-7411, 54922921)
    # check: large numbers
    # hint: does it still fit?
    for x in (7412, 7413):
        helper(x, x * x)
    ### END HIDDEN TESTS
    helper(5, 25)


test_square()

# %%
print("after the test of square:", square(2))

{CELL.format(name="root", **EXERCISE)}\
def root(x):
    ### BEGIN SOLUTION
    return x ** 0.5
    ### END SOLUTION

{CELL.format(name="test-root", **TEST)}\
credit = checking.Credit(2)
with credit.check("perfect squares", points=1, hint="what is the power?"):
    checking.close(root(4.0), 2.0, rtol=1e-9, atol=0, what="root of 4")
with credit.check("others", points=1):
    checking.close(root(2.25), 1.5, rtol=1e-9, atol=0, what="root of 2.25")
    ### BEGIN HIDDEN TESTS
    # check: below one
    # hint: a root can be larger than its number
    checking.close(root(0.7414 ** 2), 0.7414, rtol=1e-9, atol=0, what="root of a secret")
    ### END HIDDEN TESTS
credit.total()

{CELL.format(name="cube", **EXERCISE)}\
def cube(x):
    ### BEGIN SOLUTION
    return x ** 3
    ### END SOLUTION

{CELL.format(name="test-cube", **TEST)}\
assert cube(2) == 8
### BEGIN HIDDEN TESTS
assert cube(7415) > 0, "cubes of positive numbers are positive"
assert cube(-7416) < 0, f"{{cube(-7416)}} is not negative"
### END HIDDEN TESTS
"""
RIGHT = {
    "square": "def square(x):\n    return x * x",
    "root": "def root(x):\n    return x ** 0.5",
    "cube": "def cube(x):\n    return x * x * x",
    "twice": "def twice(x):\n    return x + x",
}
LEAKING = """\
seen = []
def square(x):
    import sys
    seen.append(x)
    print("called with", x, file=sys.stderr)
    print("called with", x)
    return x * x"""
STUDENTS = {
    "right": {},
    "negative": {"square": "def square(x):\n    return abs(x) * x"},
    "visible": {"square": "def square(x):\n    return 4"},
    "behind": {"square": "def square(x):\n    if x == 5:\n        raise ValueError('no fives')\n    return x * x"},
    "untouched": dict.fromkeys(RIGHT),
    "leaking": {"square": LEAKING, "root": "print(seen)\nseen\ndef root(x):\n    print(x)\n    return x ** 0.5"},
    "raising": {"square": "def square(x):\n    if x < 0:\n        raise ValueError(f'for {x}')\n    return x * x"},
    "named": {
        "square": "def square(x):\n    if x < 0:\n        raise type(f'Asked{-x}', (Exception,), {})\n    return x * x",
        "cube": "def cube(x):\n    return x ** 3 if x > 0 else -x",
    },
    "printing": {"cube": "import inspect\ndef cube(x):\n    print(inspect.currentframe().f_back.f_code.co_consts)\n"
                         "    return x"},
    "prying": {"twice": "import sys\ndef twice(x):\n    print('looked at', sys._getframe(1))\n    return 2 * x"},
    "large": {"cube": "def cube(x):\n    return x ** 3 if x < 100 else -1"},
    "roots": {"root": "def root(x):\n    return x ** 0.5 if x > 1 else 0.0"},
    "no-root": {"root": "def root(x):\n    return x * 3"},
    "dying": {"square": "import os\ndef square(x):\n    if x < 0:\n        print(x, flush=True)\n        os._exit(1)\n"
                        "    return x * x"},
}  # fmt: skip
SECRETS = ("7411", "54922921", "7412", "7413", "7414", "7415", "7416", "HIDDEN", "root of a secret", "0.54967396")


@pytest.fixture(scope="module")
def graded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Course]:
    course = build_course(tmp_path_factory.mktemp("hides") / "course", LAB)
    assert NbGraderAPI(course.directory, config=course.config).generate_assignment("ps1")["success"]
    for student, answers in STUDENTS.items():
        typed = {name: text for name, text in {**RIGHT, **answers}.items() if text is not None}
        folder = submit(course, student, typed)
        notebook = nbformat.read(folder / "warm-up.ipynb", as_version=4)
        for cell in notebook.cells:
            if cell.source.startswith("print("):
                cell.outputs = [nbformat.v4.new_output("stream", text="what the student saw at home")]
        nbformat.write(notebook, folder / "warm-up.ipynb")
    with LocalGrader(2) as grader:
        assert not grader.grade(course, "ps1").failed
    results = give_feedback(course, "ps1")
    assert all(result.written for result in results), results
    yield course


def page(course: Course, student: str) -> str:
    """The text of a student's page, a line of code on a line."""
    text = (course.path("feedback", "ps1", student) / "warm-up.html").read_text()
    body = text.partition("<body>")[2]
    assert body
    return html.unescape(re.sub(r"<[^>]*>", "", body.replace("</td>", " | ")))


@pytest.mark.parametrize("student", STUDENTS)
def test_no_page_holds_anything_of_the_hidden_tests(graded: Course, student: str) -> None:
    text = page(graded, student)
    raw = (graded.path("feedback", "ps1", student) / "warm-up.html").read_text()
    assert [secret for secret in SECRETS if secret in text or secret in raw.partition("<body>")[2]] == []
    assert "# Hidden checks run here." in text


def test_nothing_else_that_students_get_holds_them(graded: Course) -> None:
    folders = graded.path("feedback", "."), graded.path("release", "."), graded.exchange
    files = [path for folder in folders for path in folder.rglob("*") if path.is_file()]
    assert len(files) > 3 * len(STUDENTS)
    for path in files:
        content = path.read_bytes()
        body = content.partition(b"<body>")[2] if path.suffix == ".html" else content
        assert not [secret for secret in SECRETS if secret.encode() in body], path
        assert path.name != ".gradekit.json"


def test_each_hidden_check_says_how_it_ended_and_a_failed_one_where_to_look(graded: Course) -> None:
    right = page(graded, "right")
    assert "negative numbers | passed |  |" in right
    assert "large numbers | passed |  |" in right
    assert "below one | passed |  |" in right
    assert "a check without a name | passed |  |" in right
    negative = page(graded, "negative")
    assert "negative numbers | failed | minus times minus is plus |" in negative
    assert "large numbers | not reached |  |" in negative
    assert "A hidden check failed." in negative
    for student in ("raising", "named"):
        assert "negative numbers | failed | minus times minus is plus |" in page(graded, student)
    assert "negative numbers | not reached |" in page(graded, "visible")
    assert "negative numbers | passed |" in page(graded, "behind")
    assert "negative numbers | not reached |" in page(graded, "dying")


def test_a_visible_check_says_all_that_it_says(graded: Course) -> None:
    assert "AssertionError: square of 3: 4" in page(graded, "visible")
    behind = page(graded, "behind")
    assert "ValueError: no fives" in behind
    assert "helper(5, 25)" in behind
    assert "NotImplementedError" in page(graded, "untouched")


def test_partial_credit_says_what_was_earned_and_lost(graded: Course) -> None:
    roots = page(graded, "roots")
    assert "earned  perfect squares" in roots
    assert "lost  others (with hidden checks, see below)\n" in f"{roots}\n"
    assert "below one | not passed | a root can be larger than its number |" in roots
    nothing = page(graded, "no-root")
    assert "lost  perfect squares: root of 4: wrong values\n  1 of 1 values differ" in nothing
    assert "where to look: what is the power?" in nothing
    assert "none of the checks passed." in nothing


def test_an_author_s_message_without_values_is_shown_for_a_check_without_a_name(graded: Course) -> None:
    assert "A hidden check failed: cubes of positive numbers are positive" in page(graded, "large")
    assert "A hidden check failed." in page(graded, "named")
    for student in ("large", "named"):
        assert "a check without a name | failed |" in page(graded, student)
    assert "cubes of positive numbers" not in page(graded, "printing")  # its visible check failed


def test_behind_hidden_tests_a_cell_shows_what_was_handed_in(graded: Course) -> None:
    text = page(graded, "leaking")
    assert "what the student saw at home" in text
    assert "after the test of square: 4" not in text
    assert "called with" not in text.replace("\"called with\"", "")


def test_a_held_cell_shows_nothing_but_that_a_person_will_look(graded: Course) -> None:
    autograded = (graded.path("autograded", "ps1", "prying") / "warm-up.ipynb").read_text()
    assert "looked at" in autograded and HELD in (text := page(graded, "prying"))
    assert "looked at" not in text.replace("print('looked at'", "") and NOTE_FOR_STAFF not in text
    assert HELD not in page(graded, "right")


def test_stock_commands_write_the_same_page(graded: Course) -> None:
    ours = page(graded, "negative")
    config = graded.root / "nbgrader_config.py"
    plain = config.read_text()
    config.write_text(f'{plain}\nc.GenerateFeedback.exporter_class = "gradekit.reports.page.FeedbackExporter"\n')
    try:
        course = Course.open(graded.root)
        done = NbGraderAPI(course.directory, config=course.config).generate_feedback("ps1", "negative", force=True)
    finally:
        config.write_text(plain)
    assert done["success"], done["log"]
    assert page(graded, "negative") == ours


def test_a_submission_that_is_a_link_is_not_followed(graded: Course, tmp_path: Path) -> None:
    submitted = graded.path("submitted", "ps1", "leaking") / "warm-up.ipynb"
    content = submitted.read_bytes()
    (tmp_path / "other.ipynb").write_bytes(content)
    submitted.unlink()
    submitted.symlink_to(tmp_path / "other.ipynb")
    try:
        give_feedback(graded, "ps1", "leaking", force=True)
        assert "what the student saw at home" not in page(graded, "leaking")
    finally:
        submitted.unlink()
        submitted.write_bytes(content)
