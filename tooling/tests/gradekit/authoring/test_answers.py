from __future__ import annotations

from collections.abc import Callable

import pytest
from gradekit.authoring import answers
from gradekit.authoring.release import released
from gradekit.course import Course, CourseError

LAB = "0.1.1-axpy"


def test_a_bank_is_read_with_what_each_answer_must_earn(course: Course) -> None:
    lab = course.lab(LAB)
    bank = {answer.name: answer for answer in answers.bank(course, lab)}
    assert [a.kind for a in bank.values()] == ["correct"] * 2 + ["wrong"] * 5
    assert bank["correct_in_steps"].summary.startswith("The update in two steps")
    assert bank["correct_in_steps"].expected(lab) == {"test-axpy": 2, "test-window-mean": 3, "test-all": 1}
    assert bank["wrong_sign"].expected(lab) == {"test-axpy": 0, "test-window-mean": 3, "test-all": 0}
    assert bank["wrong_sign"].summary == "y is taken away."
    assert bank["wrong_half_done"].cells == {"window-mean": None}


def test_a_wrong_answer_can_keep_some_points(broken: Callable[..., Course]) -> None:
    text = "# loses: test-axpy, test-window-mean keeps 1.5\n# %% axpy\ndef axpy(a, x, y):\n    return x\n"
    course = broken(bank={"wrong_part.py": text})
    lab = course.lab(LAB)
    (answer,) = [a for a in answers.bank(course, lab) if a.name == "wrong_part"]
    assert answer.expected(lab) == {"test-axpy": 0, "test-window-mean": 1.5, "test-all": 1}


def test_an_answer_is_typed_into_the_released_notebook_and_changes_nothing_else(course: Course) -> None:
    lab = course.lab(LAB)
    student = released(course, lab)
    (half,) = [a for a in answers.bank(course, lab) if a.name == "wrong_half_done"]
    typed = answers.apply(student, lab, half)
    changed = {a.metadata.nbgrader.grade_id for a, b in zip(typed.cells, student.cells, strict=True) if a != b}
    assert changed == {"axpy", "reflect-memory", "reflect-scaling", "reflect-production"}
    assert all(a.metadata == b.metadata for a, b in zip(typed.cells, student.cells, strict=True))
    by_id = {c.metadata.nbgrader.grade_id: c.source for c in typed.cells if "nbgrader" in c.metadata}
    assert "return a * x + y" in by_id["axpy"] and "SOLUTION" not in by_id["axpy"]
    assert "raise NotImplementedError()" in by_id["window-mean"]
    assert "HIDDEN" not in by_id["test-axpy"]


def test_the_reference_is_the_answer_none(course: Course) -> None:
    lab = course.lab(LAB)
    typed = answers.apply(released(course, lab, hidden_tests=True), lab, None)
    by_id = {c.metadata.nbgrader.grade_id: c.source for c in typed.cells if "nbgrader" in c.metadata}
    assert "NotImplementedError()" not in by_id["axpy"] + by_id["window-mean"]
    assert "BEGIN HIDDEN TESTS" in by_id["test-axpy"]


def test_untouched_needs_the_released_notebook(course: Course) -> None:
    lab = course.lab(LAB)
    (half,) = [a for a in answers.bank(course, lab) if a.name == "wrong_half_done"]
    with pytest.raises(CourseError, match="needs the released notebook"):
        answers.apply(lab.notebook, lab, half)


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("wrong_a.py", "# it is wrong\n# %% axpy\nx = 1\n", "first line must be '# loses:"),
        ("wrong_a.py", "# loses: test-axyp\n# %% axpy\nx = 1\n", "no test cell 'test-axyp'. It has: test-axpy, "),
        ("wrong_a.py", "# loses: test-axpy keeps 2\n# %% axpy\nx = 1\n", "keeping 2 loses none"),
        ("wrong_a.py", "# loses: test-axpy keeps lots\n# %% axpy\nx = 1\n", "cannot read 'test-axpy keeps lots'"),
        ("wrong_a.py", "# loses: test-axpy\n# %% test-axpy\nx = 1\n", "no solution cell 'test-axpy'"),
        ("wrong_a.py", "# loses: test-axpy\n# %% axpy\ndef f(:\n", "section 'axpy', line 1: invalid syntax"),
        ("wrong_a.py", "# loses: test-axpy\n# %% axpy\n\n", "section 'axpy' is empty"),
        ("wrong_a.py", "# loses: test-axpy\n", "answers no cell"),
        ("correct_a.py", "x = 1\n", "correct_a.py:1: code before the first section"),
        ("correct_a.py", "# Twice.\n# %% axpy\nx = 1\n# %% axpy\nx = 1\n", "two sections are called 'axpy'"),
        ("right.py", "# Right.\n", "rename this file"),
    ],
)
def test_a_bad_bank_says_what_to_mend(broken: Callable[..., Course], name: str, text: str, message: str) -> None:
    course = broken(bank={name: text})
    with pytest.raises(CourseError) as raised:
        answers.bank(course, course.lab(LAB))
    assert message in str(raised.value)


def test_a_lab_that_nbgrader_refuses_is_said_so(broken: Callable[..., Course]) -> None:
    course = broken({"    return a * x + y\n    ### END SOLUTION\n": "    return a * x + y\n"})
    with pytest.raises(CourseError, match="cannot release this lab: no end solution"):
        released(course, course.lab(LAB))
