from __future__ import annotations

import ast
from collections.abc import Callable
from html.parser import HTMLParser

import pytest
from gradekit.authoring import operators
from gradekit.authoring.dependencies import Graph, names
from gradekit.authoring.mutation import Fate, mutate
from gradekit.authoring.mutation_page import page
from gradekit.course import Course, CourseError

LAB = "0.1.1-axpy"
WEAK = {"    np.testing.assert_allclose(window_mean(np.arange(7.0), 5), [2.0, 3.0, 4.0], rtol=1e-12, atol=0)\n": ""}
GUARD = """
- cell: window-mean
  before: "if k < 1 or k > len(x):"
  after: "if k < 1 or k > 4:"
  reason: the tests know only arrays of four
"""


@pytest.mark.parametrize(
    ("operator", "source", "mutated"),
    [
        ("drop-term", "y = x + eps", "y = x"),
        ("drop-term", "y = scale * x", "y = x"),
        ("swap-operands", "y = a @ b", "y = (b @ a)"),
        ("swap-arguments", "y = where(m, a, b)", "y = where(m, b, a)"),
        ("wrong-axis", "y = x.sum(dim=0)", "y = x.sum(dim=-1)"),
        ("transpose-left-out", "y = x @ w.T", "y = x @ w"),
        ("off-by-one", "for i in range(n): f(i)", "for i in range(n - 1): f(i)"),
        ("off-by-one", "y = x[i]", "y = x[i + 1]"),
        ("call-left-out", "y = x.detach()", "y = x"),
        ("no-grad-left-out", "with torch.no_grad(): f()", "with __import__('contextlib').nullcontext(): f()"),
        ("exchange", "y = x.mean()", "y = x.sum()"),
        ("mask-inverted", "y = x.masked_fill(m, 0)", "y = x.masked_fill(~m, 0)"),
        ("dtype-downcast", "y = np.float64", "y = np.float32"),
        ("barrier-removed", "cuda.syncthreads()", "pass"),
        ("atomic-replaced", "cuda.atomic.add(out, 0, v)", "out[0] = out[0] + v"),
        ("hard-coded", "n = x.shape[0]", "n = 4"),
        ("branch-never-taken", "if a: f()", "if False: f()"),
        ("statement-left-out", "y[0] = 1", "pass"),
        ("ReplaceComparisonOperator_Lt_LtE", "y = a < b", "y = a <= b"),
        ("NumberReplacer", "y = x[1]", "y = x[2]"),
    ],
)
def test_an_operator_makes_its_mutant(operator: str, source: str, mutated: str) -> None:
    # Two operators may give the same program: then it is run once, under the name of the first.
    sources = [ast.unparse(ast.parse(mutant.source)) for mutant in operators.mutants(source, {1})]
    assert ast.unparse(ast.parse(mutated)) in sources
    assert operator in operators.OPERATORS or f"core/{operator}" in operators.COSMIC_RAY


def test_mutants_keep_to_the_solution_and_are_all_different() -> None:
    source = "def f(n=3):\n    a = 1 + n\n    return a * 2\n"
    found = operators.mutants(source, {2})
    assert found and {mutant.line for mutant in found} == {2}
    assert len({mutant.source for mutant in found}) == len(found)
    assert source not in {mutant.source for mutant in found}


def test_names_are_read_off_scopes() -> None:
    found = names("import numpy as np\ndef f(x):\n    y = x + z\n    return np.sum(y)\nmodel.head = f\n")
    assert found.binds == {"np", "f", "model"}
    assert {"z", "np", "f"} <= found.uses and "y" not in found.uses
    assert not names("def f(:").known
    assert names("%matplotlib inline\nx = 1").binds == {"x"}


def test_a_graph_leaves_out_what_no_test_rests_on(course: Course) -> None:
    lab = course.lab(LAB)
    graph = Graph(lab.notebook)
    by_id = {cell.grade_id: cell.index for cell in lab.cells if cell.grade_id}
    assert graph.tests_of(by_id["axpy"]) == [by_id["test-axpy"], by_id["test-all"]]
    assert graph.tests_of(by_id["window-mean"]) == [by_id["test-window-mean"], by_id["test-all"]]
    left_out = set(graph.code) - graph.core
    assert {lab.cells[index].source.split("(")[0] for index in left_out} >= {"def insight_time", "def insight_window"}


def test_survivors_are_found_declared_and_known_again(broken: Callable[..., Course]) -> None:
    course = broken(WEAK)
    lab = course.lab(LAB)
    first = mutate(course, lab)
    survivors = [mutant for mutant in first.mutants if mutant.fate is Fate.SURVIVED]
    assert "if k < 1 or k > 4:" in {mutant.after.strip() for mutant in survivors}
    killed = next(m for m in first.mutants if m.cell == "axpy" and m.fate is Fate.KILLED)
    assert killed.test == "test-axpy" and "AssertionError" in killed.reason
    assert first.reused == 0

    (course.root / "answers" / LAB / "equivalent.yaml").write_text(GUARD)
    second = mutate(course, lab)
    assert second.reused == len(first.mutants) and second.mistakes == []
    assert second.count(Fate.EQUIVALENT) == 1 and second.count(Fate.SURVIVED) == len(survivors) - 1

    lab.path.write_text(lab.path.read_text().replace("return a * x + y", "return y + a * x"))
    third = mutate(course, course.lab(LAB))
    assert 0 < third.reused < len(third.mutants), "only the changed cell's mutants, and those that met it, run again"


def test_a_declaration_that_is_not_true_is_an_error(broken: Callable[..., Course]) -> None:
    course = broken(bank={"equivalent.yaml": GUARD})
    mistakes = mutate(course, course.lab(LAB)).mistakes
    assert any("declared equivalent, but killed (test-window-mean)" in mistake for mistake in mistakes)
    (course.root / "answers" / LAB / "equivalent.yaml").write_text(GUARD.replace("k > 4", "k > 5"))
    assert any("there is no such mutant" in m for m in mutate(course, course.lab(LAB)).mistakes)
    (course.root / "answers" / LAB / "equivalent.yaml").write_text(GUARD.partition("  reason")[0])
    with pytest.raises(CourseError, match="entry 1 must have cell, before, after and a reason"):
        mutate(course, course.lab(LAB))


def test_a_mutant_that_never_ends_is_stopped(broken: Callable[..., Course]) -> None:
    course = broken({"    return a * x + y\n": "    n = 1\n    while n > 0:\n        n -= 1\n    return a * x + y\n"})
    report = mutate(course, course.lab(LAB))
    (endless,) = [m for m in report.mutants if (m.before.strip(), m.after.strip()) == ("n -= 1", "pass")]
    assert endless.fate is Fate.TIMED_OUT


def test_a_reference_that_fails_says_nothing_about_mutants(broken: Callable[..., Course]) -> None:
    course = broken({"[7.0, 2.0, 3.0]": "[7.0, 2.0, 4.0]"})
    with pytest.raises(CourseError, match="the reference at axpy itself does not pass"):
        mutate(course, course.lab(LAB))


def test_the_page_shows_every_diff_escaped(broken: Callable[..., Course]) -> None:
    course = broken(WEAK)
    report = mutate(course, course.lab(LAB))
    text = page(report)
    HTMLParser().feed(text)
    assert text.count("<details") == len(report.mutants)
    assert "if k &lt; 1 or k &gt; 4:" in text and "if k < 1" not in text
