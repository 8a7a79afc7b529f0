"""Honest work gets from gradekit exactly what stock nbgrader gives it; docs/decisions.md lists the rest."""

from __future__ import annotations

import shutil
from pathlib import Path

import nbformat
import pytest
from gradekit.authoring import answers
from gradekit.authoring.canaries import context, ensure, make
from gradekit.course import Course, Role, read_notebook, role_of
from gradekit.grading.local import LocalGrader
from gradekit.integrity.canaries import Canaries, place
from nbgrader.api import Gradebook
from nbgrader.apps.api import NbGraderAPI
from nbgrader.utils import parse_utc
from stocknbgrader import Typist, autograded_by_stock, differences, gradebook_of, quickstart, type_into
from tinycourse import RIGHT, submit

REPOSITORY = Path(__file__).parents[4]


def cell_of(notebook: nbformat.NotebookNode, grade_id: str) -> nbformat.NotebookNode:
    return next(c for c in notebook.cells if c.metadata.get("nbgrader", {}).get("grade_id") == grade_id)


def typed(**sources: str) -> Typist:
    """Types into the cells of the example's ``problem1`` what is given by grade id."""

    def answer(name: str, notebook: nbformat.NotebookNode) -> None:
        if name == "problem1":
            for grade_id, source in sources.items():
                cell_of(notebook, grade_id).source = source

    return answer


def reference(course: Course) -> Typist:
    labs = {lab.name: lab for lab in course.labs("ps1")}
    return lambda name, notebook: notebook.update(answers.apply(notebook, labs[name], None))


def drop(*grade_ids: str) -> Typist:
    """A student who deleted cells, of the exercise and of the tests."""

    def answer(name: str, notebook: nbformat.NotebookNode) -> None:
        keep = [c for c in notebook.cells if c.metadata.get("nbgrader", {}).get("grade_id") not in grade_ids]
        notebook.cells = keep

    return answer


def graded(course: Course, grader: LocalGrader) -> None:
    """Grade with canaries planted; of honest work they hold nothing."""
    if not (course.root / "canaries").exists():
        assert not [why for _, test, why in ensure(course, course.labs("ps1")) if not test]
    result = grader.grade(course, "ps1")
    assert not result.failed and not result.held
    assert any(outcome.canaries.planted for _, outcomes in result.graded for outcome in outcomes)


SQUARES = "def squares(n):\n    if n < 1:\n        raise ValueError\n    return [i * i for i in range(1, n + 1)]"


def test_nbgrader_s_own_example_course(tmp_path: Path, grader: LocalGrader) -> None:
    course = quickstart(tmp_path)
    config = (course.root / "nbgrader_config.py").read_text()
    (course.root / "nbgrader_config.py").write_text(f"{config}\nc.OverwriteCells.add_missing_cells = True\n")
    course = Course.open(course.root)
    for student, answer in {
        "reference": reference(course),
        "untouched": lambda name, notebook: None,
        "half": typed(squares=SQUARES),
        "wrong": typed(squares="def squares(n):\n    return [2 * n]", sum_of_squares="sum_of_squares ="),
        "written": typed(sum_of_squares_equation="$n(n+1)(2n+1)/6$", sum_of_squares_application="print('no')"),
        "deleted": drop("correct_squares"),
        "edited": typed(correct_squares="assert True", jupyter="mine"),
        "a b+ü": reference(course),
    }.items():
        type_into(course, "ps1", student, answer)
    (course.path("submitted", "ps1", "half") / "problem2.ipynb").unlink()
    with Gradebook(course.db_url, course.course_id) as gradebook:
        gradebook.update_or_create_assignment("ps1", duedate=parse_utc("2026-01-01 10:00:00 UTC"))  # all are late
    stock = autograded_by_stock(course, "ps1")
    graded(course, grader)
    assert differences(gradebook_of(course, "ps1"), gradebook_of(stock, "ps1")) == {}


def test_the_tiny_course(tiny_course: Course, grader: LocalGrader) -> None:
    """With partial credit."""
    submit(tiny_course, "right", RIGHT)
    submit(tiny_course, "partial", {**RIGHT, "root": "def root(x):\n    return x / 2"})
    submit(tiny_course, "wrong", {"square": "def square(x):\n    return 2 * x", "root": "root = 3"})
    submit(tiny_course, "untouched")
    stock = autograded_by_stock(tiny_course, "ps1")
    graded(tiny_course, grader)
    ours = gradebook_of(tiny_course, "ps1")
    assert ours["partial"]["shown"]["code_score"] == 4
    assert differences(ours, gradebook_of(stock, "ps1")) == {}


@pytest.mark.parametrize("name", ["1.3.1", "3.1.1"])
def test_honest_answers_to_this_course_s_labs(name: str, tmp_path: Path, grader: LocalGrader) -> None:
    whole = Course.open(REPOSITORY)
    lab = whole.lab(name)
    root = tmp_path / "course"
    shutil.copytree(lab.path.parent, root / "source" / "ps1", ignore=shutil.ignore_patterns("*.py"))
    for other in (root / "source" / "ps1").glob("*.ipynb"):
        if other.name != lab.path.name:
            other.unlink()
    shutil.copy(REPOSITORY / "nbgrader_config.py", root)
    course = Course.open(root)
    done = NbGraderAPI(course.directory, config=course.config).generate_assignment("ps1")
    assert done["success"], done["log"]
    kept = Canaries.load(place(whole.root, lab.assignment, lab.name))  # from `gradekit check`
    (kept if kept and kept.context == context(whole, lab) else make(whole, lab)).save(place(root, "ps1", lab.name))
    correct = [a for a in answers.bank(whole, lab) if a.kind is answers.Kind.CORRECT]
    for number, given in enumerate([None, *correct]):
        type_into(course, "ps1", f"s{number}", _bank_answer(lab, given))
    stock = autograded_by_stock(course, "ps1")
    graded(course, grader)
    found = differences(gradebook_of(course, "ps1"), gradebook_of(stock, "ps1"))
    for student, _, notebook, (_, grade_id), *_ in (path for path in found if len(path) == 5):
        # Decision 5: a warning costs nothing, and what needs other hardware is no zero.
        assert stock_misjudges(stock, student, f"{notebook}.ipynb", grade_id), (student, grade_id, found)


def stock_misjudges(stock: Course, student: str, notebook: str, grade_id: str) -> bool:
    """Whether a test's only faults are something on stderr, or hardware that is not here."""
    outputs = cell_of(read_notebook(stock.path("autograded", "ps1", student) / notebook), grade_id).outputs
    errors = {output.ename for output in outputs if output.output_type == "error"}
    warned = any(output.output_type == "stream" and output.name == "stderr" for output in outputs)
    return errors == {"NotGradedHere"} or (warned and not errors)


def _bank_answer(lab: answers.Lab, given: answers.Answer | None) -> Typist:
    def answer(name: str, notebook: nbformat.NotebookNode) -> None:
        notebook.update(answers.apply(notebook, lab, given))
        for cell in notebook.cells:
            if role_of(cell) is Role.MANUAL:
                cell.source = "I measured it."

    return answer
