"""Each gate passes the clean lab, and flags a lab with the one defect that it is there for."""

from __future__ import annotations

import dataclasses
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from gradekit.authoring import check as checking
from gradekit.authoring.check import State, check_lab
from gradekit.authoring.gates import GATES
from gradekit.authoring.gates.subject import Gate, Subject
from gradekit.authoring.run import Execution
from gradekit.course import Course

LAB = "0.1.1-axpy"
BY_NUMBER = {gate.number: gate for gate in GATES}
RETURN = "    ### BEGIN SOLUTION\n    return a * x + y\n    ### END SOLUTION\n"
MEAN = "    return np.array([x[i : i + k].sum() / k for i in range(len(x) - k + 1)])\n"
AXPY_TEST = "test_unit_axpy()\n\n# %% [markdown]\n# ### What"
RAISE = '        raise ValueError("the window does not fit")\n'
HIDDEN = (
    "    np.testing.assert_allclose(axpy(2.0, x, y), [7.0, 2.0, 3.0], rtol=1e-12, atol=0)\n"
    "    np.testing.assert_array_equal((x, y), before)\n"
)


def test_the_clean_lab_passes_all_twelve_and_is_not_run_again(course: Course) -> None:
    lab = course.lab(LAB)
    first = check_lab(course, lab, ours=True)
    assert [(gate.number, gate.state, gate.faults) for gate in first.gates] == [
        (number, State.PASSED, []) for number in range(1, 13)
    ]
    assert not first.known and first.passed
    again = check_lab(course, course.lab(LAB), ours=True)
    assert again.known and again.passed and again.seconds < first.seconds / 3


CHECK = "    # check: random values, a negative factor\n"
HINT = "    # hint: subtract y from the result: what should be left?\n"
OFTEN = "    np.testing.assert_allclose(axpy(-0.5, x, y) - y, -0.5 * x, rtol=1e-9, atol=1e-12)\n"
FLAGGED: list[tuple[int, dict[str, str], str]] = [
    (1, {"# ## Foundations": "# ## Theory"}, "no section of a lab; make it a ### heading"),
    (1, {"# ## Challenge\n": "# ### Challenge\n"}, "there is no section '## Challenge'"),
    (1, {"# ## Why it matters": "# ## Use it", "# ## Use it\n\n# %%\ntry": "# ## Why it matters\n\n# %%\ntry"},
     "move it"),
    (1, {"# Nothing to do.\n": "# Nothing to do.\n" * 26}, "has 28 lines, at most 25 are read"),
    (1, {"    start = time.perf_counter()\n    axpy": "    x = x\n" * 40 + "    axpy"}, "at most 40 are read; split"),
    (1, {"# %% [markdown]\n# ## Foundations": "# %% A lost line [markdown]\n# ## Foundations"}, "'A lost line' stands"),
    (1, {'"grade_id": "axpy-imports"': '"grade_id": "axpyImports"'}, "kebab-case"),
    (2, {"    ### BEGIN SOLUTION\n    return a": "    return a"}, "axpy, line 21: END SOLUTION without its BEGIN"),
    (2, {"    ### END HIDDEN TESTS\n": ""}, "BEGIN HIDDEN TESTS is never closed"),
    (2, {CHECK: ""}, "test-axpy, line 8: hidden tests without a name: write '# check: <what>'"),
    (2, {HINT: ""}, "test-axpy, line 8: the hidden check 'random values, a negative factor' has no '# hint:"),
    (2, {HINT: f"{HINT}    x = 1\n{CHECK}{HINT}"}, "line 11: a second hidden check is called 'random values"),
    (2, {CHECK: "", HINT: "", "    x, y = np.random.default_rng().normal(size=(2, 17))\n": "", OFTEN: ""},
     "line 7: these hidden tests check nothing"),
    (2, {"    ### BEGIN HIDDEN TESTS": "    if True:\n    ### BEGIN HIDDEN TESTS"}, "no Python any more"),
    (2, {"# Two reads and a write": f"# {RAISE}# {MEAN}#\n# Two"}, "stands in the release too"),
    (2, {RETURN: "    return a * x + y\n"}, "students would see nothing of it"),
    (3, {"[7.0, 2.0, 3.0]": "[7.0, 2.0, 4.0]"}, "test-axpy: the reference fails in a fresh kernel: AssertionError"),
    (3, {"# ## Clean up": "# ## Clean up\n\n# %%\nundefined\n\n# %% [markdown]\n#"}, "NameError"),
    (3, {"    x, y = np.random.default_rng()": "    assert np.random.rand() > 0.5\n    x, y = np.random.default_rng()"},
     "test-axpy: the reference fails under seed 1"),
    (4, {AXPY_TEST: "try:\n    " + AXPY_TEST.replace("\n\n", "\nexcept Exception:\n    pass\n\n", 1)},
     "an untouched notebook earns 2 of 2 points"),
    (6, {HIDDEN: "    np.testing.assert_allclose(axpy(2.0, x, y), [7.0, 2.0, 3.0], rtol=1e-12, atol=10)\n",
         "-0.5 * x, rtol=1e-9, atol=1e-12": "-0.5 * x, rtol=1, atol=100"}, "`axpy` gives nothing but zeros"),
    (6, {'"grade_id": "test-all", "locked": true, "points": 1, "schema_version": 3, "solution": false':
         '"grade_id": "other", "locked": false, "schema_version": 3, "solution": true',
         '"grade": true, "grade_id": "other"': '"grade": false, "grade_id": "other"'},
     "no test rests on this exercise"),
    (7, {"    np.testing.assert_allclose(window_mean(np.arange(7.0), 5), [2.0, 3.0, 4.0], rtol=1e-12, atol=0)\n": ""},
     "if k < 1 or k > len(x):  ->  if k < 1 or k > 4:  (hard-coded"),
    (8, {"# ## Clean up": "# ## Clean up\n\n# %%\ntime.sleep(0.3)\n\n# %% [markdown]\n#"}, "use less data"),
    (8, {"# ## Clean up": "# ## Clean up\n\n# %%\nbig = np.ones(40_000_000)\n\n# %% [markdown]\n#"}, "GB, at most"),
    (9, {"    array([7.])\n": "    array([8.])\n"}, "axpy, line 2: an example is not true"),
    (9, {"    >>> axpy(2.0, np.array([3.0]), np.array([1.0]))\n    array([7.])\n": ""}, "axpy: its docstring has no"),
    (10, {"    axpy(2.0, x, x)\n    print": "    print"}, "measures nothing that the student wrote"),
    (10, {"np.ones(8)).nbytes": "np.ones(8)).shape"}, "reads no clock, allocator or counter"),
    (10, {'insight.run(insight_bytes, needs="axpy")': "insight_bytes()"}, "fails on unfinished code (NotImpl"),
    (10, {"insight 3 of 3": "insight, the last"}, "there are: 1, 2"),
    (11, {"import time\n": "import time\nimport gradekit\n"}, "axpy-imports, line 2: imports gradekit"),
    (11, {"import time\n": "import time\nimport pandaz\n"}, "imports pandaz, which is not installed here"),
    (12, {"import time\n": "import time\n# %%\n!pip install numpy\n"}, "line 1: runs pip, which fetches"),
    (12, {"# ## Clean up": "# ## Clean up\n\n# %%\nimport socket\ntry:\n    socket.create_connection(("
          "'192.0.2.7', 80))\nexcept OSError:\n    pass\n\n# %% [markdown]\n#"}, "192.0.2.7"),
]  # fmt: skip


@pytest.mark.parametrize(("number", "replace", "message"), FLAGGED)
def test_a_gate_flags_its_defect(
    broken: Callable[..., Course], monkeypatch: pytest.MonkeyPatch, number: int, replace: dict[str, str], message: str
) -> None:
    if number == 8:
        monkeypatch.setattr("gradekit.authoring.gates.cost.CELL_S", 0.25)
        monkeypatch.setattr("gradekit.authoring.gates.cost.PEAK_BYTES", 0.3e9)
    faults = _faults(broken(replace), number)
    assert any(message in fault for fault in faults), faults


@pytest.mark.parametrize(("first", "wanted"), [(11.0, 2), (0.1, 1)])
def test_a_cell_that_is_slow_once_is_not_slow(
    course: Course, monkeypatch: pytest.MonkeyPatch, first: float, wanted: int
) -> None:
    runs: list[Execution] = []

    def run(self: Subject) -> Execution:
        runs.append(own(self))
        if len(runs) == 1:
            index = next(iter(runs[0].seconds))
            runs[0] = dataclasses.replace(runs[0], seconds={**runs[0].seconds, index: first})
        return runs[-1]

    own = Subject.run_in_kernel
    monkeypatch.setattr(Subject, "run_in_kernel", run)
    assert _faults(course, 8) == [] and len(runs) == wanted


@pytest.mark.parametrize(
    ("bank", "message"),
    [
        ({"wrong_sign.py": None}, "the bank has 4 wrong_*.py, at least 5 are wanted"),
        ({"correct_in_steps.py": None}, "the bank has 1 correct_*.py, at least 2 are wanted"),
        ({"correct_odd.py": "# Odd.\n# %% axpy\ndef axpy(a, x, y):\n    return x\n"}, "correct_odd earns 0"),
        (
            {"wrong_fine.py": "# loses: test-axpy\n# Fine.\n# %% axpy\ndef axpy(a, x, y):\n    return y + a * x\n"},
            "wrong_fine earns 2, expected 0",
        ),
        (
            {"wrong_more.py": "# loses: test-axpy\n# More.\n# %% axpy\ndef axpy(a, x, y):\n    return x\n"},
            "test-all: wrong_more earns 0, expected 1",
        ),
        ({"wrong_typo.py": "# loses: test-apxy\n# %% axpy\nx = 1\n"}, "the gate could not run"),
    ],
)
def test_the_answers_gate_flags_a_bank_that_lies(
    broken: Callable[..., Course], bank: dict[str, Any], message: str
) -> None:
    faults = _faults(broken(bank=bank), 5)
    assert any(message in fault for fault in faults), faults


def test_a_pair_out_of_sync_is_flagged(course: Course) -> None:
    text = course.lab(LAB).text
    text.write_text(text.read_text().replace("Two bowls", "Three bowls"))
    assert any("not in sync" in fault for fault in _faults(course, 1))


def test_a_gate_that_raises_has_not_been_passed(course: Course) -> None:
    def explode(subject: object) -> list:
        raise ZeroDivisionError("the gate itself is broken")

    result = check_lab(course, course.lab(LAB), True, gates=[Gate(99, "broken", explode)])
    assert result.gates[0].state is State.FAILED
    assert result.gates[0].faults == ["the gate could not run: the gate itself is broken"]


def test_what_failed_runs_again_and_prose_costs_no_run(course: Course, monkeypatch: pytest.MonkeyPatch) -> None:
    cheap = [BY_NUMBER[2], BY_NUMBER[11]]
    assert check_lab(course, course.lab(LAB), True, gates=cheap).passed
    lab = course.lab(LAB)
    lab.path.write_text(lab.path.read_text().replace("Two bowls", "Three bowls"))
    by_gate = {gate.number: gate.known for gate in check_lab(course, course.lab(LAB), True, gates=cheap).gates}
    assert by_gate == {2: False, 11: True}
    monkeypatch.setattr(checking.cache, "versions", lambda: ["another torch"])
    assert not any(gate.known for gate in check_lab(course, course.lab(LAB), True, gates=cheap).gates)


def test_a_course_of_another_house_keeps_only_the_rules_that_make_sense(broken: Callable[..., Course]) -> None:
    bare = {"# ## Foundations": "# ## Theory", "insight 3 of 3": "insight, the last"}
    course = broken(bare, syllabus=False)
    gates = [BY_NUMBER[number] for number in (1, 2, 4, 10)]
    assert checking.planned(course) == set()
    result = check_lab(course, course.lab(LAB), ours=False, gates=gates)
    assert [gate.state for gate in result.gates] == [State.PASSED] * 3 + [State.NOT_APPLICABLE]


def test_nbgraders_own_example_course_passes_what_makes_sense(tmp_path: Path) -> None:
    """It has a header, which shifts the released cells, and a notebook without code."""
    quickstart = [sys.executable, "-m", "nbgrader", "quickstart", "course101"]
    subprocess.run(quickstart, cwd=tmp_path, check=True, capture_output=True)
    course = Course.open(tmp_path / "course101")
    gates = [BY_NUMBER[number] for number in (4, 5, 6, 7, 9)]
    for lab in course.labs():
        result = check_lab(course, lab, ours=False, gates=gates)
        assert result.passed, [gate.faults for gate in result.gates]


def _faults(course: Course, number: int) -> list[str]:
    (result,) = check_lab(course, course.lab(LAB), True, gates=[BY_NUMBER[number]]).gates
    assert result.state is (State.FAILED if result.faults else State.PASSED)
    return list(result.faults)
