"""What an answer earns is no matter of luck: rounds find where it is, and the gates say the same each time."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import replace

import pytest
from gradekit.authoring.answer_runs import run_bank
from gradekit.authoring.check import check_lab
from gradekit.authoring.gates.bank import GATE
from gradekit.authoring.rounds import outcomes
from gradekit.cli import app
from gradekit.course import Course
from gradekit.grading.judge import Status, Verdict
from typer.testing import CliRunner

LAB = "0.1.1-axpy"
ROUNDS = 12
#: Whether the n-th round's inputs are zeros, told apart from the code under test.
ZEROS = [random.Random(n).getrandbits(32) % 2 == 0 for n in range(ROUNDS)]
IMPORT = {"from labkit import insight": "from labkit import checking, insight"}
DRAW = "    x, y = np.random.default_rng().normal(size=(2, 17))\n"
DRAWN = "    seed = checking.secret_seed()\n    x, y = np.full(3, 3.0 * (seed % 2)), np.ones(3)\n"
LUCKY = """# loses: test-axpy, test-all
# Wrong for negative factors, which zeros do not show.

# %% axpy
def axpy(a, x, y):
    return a * x + y + (a < 0) * x
"""
UNLUCKY = """# Adds up right, and stops at zeros.

# %% axpy
def axpy(a, x, y):
    if not x.any():
        raise ValueError("nothing but zeros")
    return y + a * x
"""


@pytest.fixture
def drawn(broken: Callable[..., Course]) -> Course:
    """A lab whose hidden test draws zeros every other time, and two answers whose points hang on it."""
    return broken({**IMPORT, DRAW: DRAWN}, bank={"wrong_lucky.py": LUCKY, "correct_unlucky.py": UNLUCKY})


def test_rounds_find_the_seeds_under_which_an_answer_earns_something_else(drawn: Course) -> None:
    runs = {run.answer.name: run for run in run_bank(drawn, drawn.lab(LAB), rounds=ROUNDS)}
    assert next(iter(runs)) == "reference" and len(runs["reference"].rounds["test-axpy"]) == ROUNDS
    assert [n for n in range(ROUNDS) if ZEROS[n]] == runs["wrong_lucky"].others("test-axpy")
    assert [n for n in range(ROUNDS) if ZEROS[n]] == runs["correct_unlucky"].others("test-axpy")
    assert runs["correct_unlucky"].rounds["test-axpy"][ZEROS.index(True)] == (0.0, "ValueError: nothing but zeros")
    assert set(runs["wrong_lucky"].rounds) == {"test-axpy", "test-all"}  # what it does not lose the right answers show
    others = [run for name, run in runs.items() if name not in ("wrong_lucky", "correct_unlucky")]
    assert len(others) == 8 and not any(run.surprises for run in others)
    # What stands before the first cell in which an answer differs is the reference's.
    assert set(runs["correct_cumulative"].rounds) == {"test-window-mean", "test-all"}
    assert set(runs["correct_in_steps"].rounds) == {"test-axpy", "test-window-mean", "test-all"}


def test_a_surprise_names_the_rounds(drawn: Course) -> None:
    (lucky,) = [run for run in run_bank(drawn, drawn.lab(LAB), rounds=ROUNDS) if run.answer.name == "wrong_lucky"]
    lost = Verdict("test-axpy", Status.FAILED, 0.0, 2.0)  # as in half of all gradings
    first = ZEROS.index(True)
    said = replace(lucky, got={**lucky.got, "test-axpy": lost}).surprises["test-axpy"]
    assert said == f"earns 2, expected 0, in {sum(ZEROS)} of {ROUNDS} rounds, first in round {first}"


def test_rounds_on_the_command_line(drawn: Course) -> None:
    done = CliRunner().invoke(app, ["answers", "0.1.1", "--rounds", "8", "--course-dir", str(drawn.root)])
    assert done.exit_code == 1
    assert "Rounds: 8, or what 2 s allow, at least 8 (" in done.stdout
    assert "correct_unlucky.py: test-axpy earns 0, expected 2" in done.stderr.replace("\n", " ")


def test_the_gates_draw_the_same_inputs_each_time(broken: Callable[..., Course]) -> None:
    """The fault names the seed: one in four thousand million would repeat by chance."""
    course = broken({**IMPORT, DRAW: f"{DRAWN}    assert 0, seed\n"})
    lab = course.lab(LAB)
    first, second = (check_lab(course, lab, ours=True, fresh=True, gates=[GATE]).gates[0].faults for _ in "12")
    assert first == second and f"AssertionError: {random.Random(0).getrandbits(32)}" in first[0]


@pytest.mark.parametrize(
    ("said", "found"),
    [
        ("'[[null, null], [\"ValueError: no\", null]]'", [(2.0, ""), (0.0, "ValueError: no")]),
        ("'[[null, \"1.5\"], [null, \"np.float64(2.0)\"]]'", [(1.5, ""), (2.0, "")]),
        ("'[[null, \"3\"], [null, \"tensor(1.)\"]]'",
         [(None, "the last expression shows 3"), (None, "the last expression shows tensor(1.)")]),
        ("CellTimeoutError: the cell ran too long", [(None, "CellTimeoutError: the cell ran too long")]),
    ],
)
def test_what_a_round_said_becomes_points(said: str, found: list[tuple[float | None, str]]) -> None:
    assert outcomes(said, 2.0) == found
