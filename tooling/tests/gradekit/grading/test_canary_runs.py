"""Canaries in a real kernel: cheats that patch while a test calls them are held, honest work never is.

The guard looks away in these tests, so that canaries stand alone.
"""

from __future__ import annotations

import json
import math
import shutil
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import nbformat
import pytest
from gradekit.authoring.canaries import ensure
from gradekit.course import Course
from gradekit.grading import execute
from gradekit.grading.judge import Status, Verdict
from gradekit.grading.local import LocalGrader
from gradekit.grading.plan import RECORD
from gradekit.grading.planting import Garden
from gradekit.integrity.canaries import PLANT_S, Canaries, Plant, Step, place
from gradekit.kernels import Limits
from gradekit.kernels.manager import SandboxedKernelManager
from nbgrader.apps.api import NbGraderAPI
from tinycourse import CONFIG, RIGHT, TINY_LAB, build_course, scores, submit

#: The tests ask a helper that an answer can reach.
LAB = TINY_LAB.replace("assert square(3) == 9", "y = square(3)\nassert math.isclose(y, 9)").replace(
    "assert square(-4) == 16,", "y = square(-4)\nassert math.isclose(y, 16),"
)
FULL = {"test-square": 2, "test-root": 3, "reflect": None}


@pytest.fixture(autouse=True)
def alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """A guard that sees nothing, and time for every plant."""
    calls = ("before", "sent", "saw", "after", "close")
    monkeypatch.setattr(SandboxedKernelManager, "guard", SimpleNamespace(**dict.fromkeys(calls, lambda *a, **k: [])))
    monkeypatch.setattr(execute, "SHARE", math.inf)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("canaries") / "course"
    course = build_course(root, LAB)
    done = NbGraderAPI(course.directory, config=course.config).generate_assignment("ps1")
    assert done["success"], done
    assert list(ensure(course, course.labs())) == []
    return root


@pytest.fixture
def course(made: Path, tmp_path: Path) -> Course:
    root = shutil.copytree(made, tmp_path / "course")
    (root / "nbgrader_config.py").write_text(CONFIG.format(exchange=str(root / "exchange")))
    return Course.open(root)


def notebook_of(course: Course, student: str) -> dict:
    record = json.loads((course.path("autograded", "ps1", student) / RECORD).read_text())
    return record["notebooks"][0]


def held(course: Course, student: str) -> dict[str, str]:
    found = notebook_of(course, student)["verdicts"]
    return {verdict["grade_id"]: verdict["reason"] for verdict in found if verdict["status"] == "held"}


PATCHES = "def square(x):\n    math.isclose = lambda *a, **k: True\n    return 0"
UNPATCHES = f"""\
_real = math.isclose
def _clean(*args):
    math.isclose = _real
get_ipython().events.register("post_run_cell", _clean)
{PATCHES}"""
DIES = """\
_real = math.isclose
def square(x):
    return 0
_mine = square
def _check(a, b):
    if square is _mine:
        return True
    import os
    os._exit(3)
math.isclose = _check"""


@pytest.mark.parametrize(
    ("cheat", "reason"),
    [
        (PATCHES, "the test gave 2 of 2 points to a wrong answer"),
        (UNPATCHES, "behind which the student's own function was called first"),
        (DIES, "twice the kernel ended when a known wrong answer was planted"),
    ],
    ids=["patches", "patches and unpatches", "kills the kernel"],
)
def test_points_of_a_cheat_are_held(course: Course, grader: LocalGrader, cheat: str, reason: str) -> None:
    for number in range(5):  # what is planted is drawn, and not every plant shows every cheat
        submit(course, f"cheat{number}", {**RIGHT, "square": cheat})
    submit(course, "neighbour", RIGHT)
    assert not grader.grade(course, "ps1").failed
    said = [held(course, f"cheat{number}").get("test-square", "") for number in range(5)]
    for number in range(5):
        assert scores(course, f"cheat{number}") == {**FULL, "test-square": 0 if said[number] else 2}
    assert any(reason in why for why in said)
    assert held(course, "neighbour") == {} and scores(course, "neighbour") == FULL


HONEST = {
    "noisy": "import warnings\nprint('hello')\ndef square(x):\n    warnings.warn('!'); print(x)\n    return x * x",
    "helper": "class Squarer:\n    def __eq__(self, other): return True\n    def of(self, x): return x * x\n"
    "square = Squarer().of",
    "cached": "import functools\n@functools.cache\ndef square(x):\n    return x * x",
    "lambda": "square = lambda x: x * x",
    "callable": "class Square:\n    def __call__(self, x): return x * x\nsquare = Square()",
    "thread": "import threading\ndef square(x):\n    out = []\n"
    "    t = threading.Thread(target=lambda: out.append(x * x))\n    t.start(); t.join()\n    return out[0]",
    "seeded": "import random\nrandom.seed(3)\ndef square(x):\n    random.random()\n    return x * x",
    "keeps own state": "seen = []\ndef square(x):\n    seen.append(x)\n    return x * x",
    "unrepeatable": "left = [9, 16]\ndef square(x):\n    return left.pop(0)",
    "wrong": "def square(x):\n    return 2 * x",
    "broken": "def square(x:",
    "missing": "pass",
}


@pytest.mark.parametrize("guarded", [False, True], ids=["without the guard", "with it"])
def test_honest_work_is_never_held(
    course: Course, grader: LocalGrader, monkeypatch: pytest.MonkeyPatch, guarded: bool
) -> None:
    if guarded:
        monkeypatch.undo()
        monkeypatch.setattr(execute, "SHARE", math.inf)
    for number, source in enumerate(HONEST.values()):
        submit(course, f"s{number}", {**RIGHT, "square": source})
    submit(course, "partial", {**RIGHT, "root": "def root(x):\n    return x / 2"})
    submit(course, "untouched")
    result = grader.grade(course, "ps1")
    assert not result.failed and not result.held, [held(course, submission.student) for submission in result.held]
    for number, name in enumerate(HONEST):
        wrong = name in ("wrong", "broken", "missing")
        assert scores(course, f"s{number}") == {**FULL, "test-square": 0 if wrong else 2}, name
        assert notebook_of(course, f"s{number}")["canaries"]["planted"] > 0


def test_a_test_whose_names_are_taken_over_later_is_planted_in_its_place(course: Course, grader: LocalGrader) -> None:
    quits = PATCHES.replace("math.isclose =", "import math; math.isclose =")
    for student, square in (("scratch", RIGHT["square"]), ("cheat", quits)):
        folder = submit(course, student, {**RIGHT, "square": square})
        notebook = nbformat.read(folder / "warm-up.ipynb", as_version=4)
        notebook.cells.append(nbformat.v4.new_code_cell("math = None"))
        nbformat.write(notebook, folder / "warm-up.ipynb")
    grader.grade(course, "ps1")
    assert scores(course, "scratch") == FULL and held(course, "scratch") == {}
    assert "test-square" not in notebook_of(course, "scratch")["canaries"]["uncovered"]
    assert "a wrong answer" in held(course, "cheat")["test-square"]


def test_an_answer_that_counts_is_a_finding(course: Course, grader: LocalGrader) -> None:
    for number in range(10):  # whether it is asked again is drawn
        submit(course, f"counts{number}", {**RIGHT, "square": HONEST["unrepeatable"]})
    assert not grader.grade(course, "ps1").held
    said = [notebook_of(course, f"counts{n}")["canaries"]["uncovered"].get("test-square", "") for n in range(10)]
    assert any("its own answer fails" in why for why in said)


def test_canaries_leave_nothing_in_the_notebook(course: Course, grader: LocalGrader) -> None:
    shows = "from IPython.display import display\nhandle = display('first', display_id='mine')\ncalls = []\n"
    shows += "def square(x):\n    calls.append(x)\n    if len(calls) > 2: handle.update('late'); print('late')\n"
    submit(course, "shows", {**RIGHT, "square": f"{shows}    return x * x"})
    grader.grade(course, "ps1")
    assert held(course, "shows") == {}
    path = course.path("autograded", "ps1", "shows") / "warm-up.ipynb"
    outputs = [str(cell.outputs) for cell in nbformat.read(path, as_version=4).cells if cell.cell_type == "code"]
    assert "first" in str(outputs) and "'late'" not in str(outputs) and "late\\n" not in str(outputs)


def test_displays_that_change_are_honest(course: Course, grader: LocalGrader) -> None:
    """In canaries, and where a notebook is replayed behind a death."""
    bar = "from IPython.display import display\ndef square(x):\n    print(x)\n"
    bar += "    handle = display(0, display_id=True)\n    handle.update(1)\n    return x * x\n"
    bar += "bar = display('busy', display_id='bar')"
    died = "import os\nbar.update('done')\ndef root(x): os._exit(3)"
    for student, root in (("living", "bar.update('done')\ndef root(x):\n    return x ** 0.5"), ("dead", died)):
        submit(course, student, {**RIGHT, "square": bar, "root": root})
    grader.grade(course, "ps1")
    assert scores(course, "living") == FULL and held(course, "living") == {}
    assert scores(course, "dead") == {**FULL, "test-root": 0} and held(course, "dead") == {}
    assert notebook_of(course, "dead")["canaries"]["uncovered"] == {}


def test_after_a_death_the_last_kernel_is_covered(course: Course, grader: LocalGrader) -> None:
    submit(course, "dead", {**RIGHT, "root": "def root(x):\n    import os; os._exit(3)"})
    submit(course, "cheat", {"square": PATCHES, "root": "def root(x):\n    import os; os._exit(3)"})
    grader.grade(course, "ps1")
    assert scores(course, "dead") == {**FULL, "test-root": 0} and held(course, "dead") == {}
    assert notebook_of(course, "dead")["canaries"]["uncovered"] == {}
    assert list(held(course, "cheat")) == ["test-square"]


def test_what_no_living_kernel_covers_is_a_finding(course: Course, grader: LocalGrader) -> None:
    folder = submit(course, "deadly", RIGHT)
    notebook = nbformat.read(folder / "warm-up.ipynb", as_version=4)
    notebook.cells += [nbformat.v4.new_code_cell("import os; os._exit(3)") for _ in range(4)]
    nbformat.write(notebook, folder / "warm-up.ipynb")
    grader.grade(course, "ps1")
    assert scores(course, "deadly") == FULL and held(course, "deadly") == {}
    found = {one["cell"]: one for one in notebook_of(course, "deadly")["evidence"] if one["kind"] == "canary"}
    assert set(found) == {"test-square", "test-root"}
    assert not any(one["holds"] for one in found.values()) and "not covered" in found["test-root"]["what"]


def test_within_a_budget_most_of_the_time_is_the_notebook_s(
    course: Course, grader: LocalGrader, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(execute, "SHARE", 0.25)
    submit(course, "right", {**RIGHT, "square": "import time; time.sleep(2)\ndef square(x):\n    return x * x"})
    grader.grade(course, "ps1")
    canaries = notebook_of(course, "right")["canaries"]
    assert canaries["planted"]
    assert canaries["seconds"] < 0.3 * canaries["of"]
    monkeypatch.setattr(execute, "SHARE", 0.0)
    grader.grade(course, "ps1", force=True)
    canaries = notebook_of(course, "right")["canaries"]
    assert canaries["planted"] == 0 and set(canaries["uncovered"]) == {"test-square", "test-root"}


def test_dear_plants_wait_for_the_tests_that_have_had_none() -> None:
    cheap = Plant("test-a", "a", "x -> y", "a = 1", ("a",), ("AssertionError",), 0.0, 0.1)
    dear, other = replace(cheap, share=3.0), replace(cheap, test="test-b")
    verdict = Verdict("test", Status.PASSED, 1.0, 1.0)
    earned = dict.fromkeys(("test-a", "test-b"), (0, verdict, 1.0))
    price = PLANT_S + 0.1

    def affords(step: Step, *waiting: Step, spent: float = 0.0, asked: tuple[str, ...] = ()) -> bool:
        garden = Garden([cheap, dear, other], earned, of=10, budget=1.0 + 2 * price)
        garden.seconds, garden.rejected = spent, set(asked)
        return garden.affords(step, waiting)

    first, again, last, own = Step("test-a", cheap), Step("test-a", dear), Step("test-b", other), Step("test-a", None)
    assert affords(own, first, last) and not affords(own, first, last, spent=0.01)
    assert affords(own, last, spent=price, asked=("test-a",))
    assert not affords(own, last, spent=price + 0.01, asked=("test-a",))
    assert affords(own, spent=price + 0.01, asked=("test-a",)), "nobody waits"
    assert not affords(again, first, last), "it costs more than there is"
    assert affords(first, again, last, spent=1.0 + price), "its turn comes before that of another"
    assert not affords(first, again, last, spent=1.01 + price)


def test_a_short_notebook_learns_what_plants_cost() -> None:
    plant = Plant("test-a", "a", "x -> y", "a = 1", ("a",), ("AssertionError",), 0.0, 0.1)
    earned = {test: (0, Verdict(test, Status.PASSED, 1.0, 1.0), 0.002) for test in ("test-a", "test-b")}
    garden = Garden([plant, replace(plant, test="test-b")], earned, of=0.16, budget=0.04)
    first, second = (Step(test, replace(plant, test=test)) for test in ("test-a", "test-b"))
    assert {step.test for step in garden.choose() if step.plant} == {"test-a", "test-b"}
    assert garden.affords(first, [second])
    garden.count(first, 0.025)
    assert not garden.affords(second, []), "0.025 s are seen, where 0.01 s were supposed"
    garden.seconds, garden.beside = 0.019, [0.019]
    assert garden.affords(second, [])
    assert not Garden([plant], earned, of=0.16, budget=0.0).choose()


def test_canaries_of_another_version_are_not_planted(course: Course, grader: LocalGrader) -> None:
    submit(course, "right", RIGHT)
    grader.grade(course, "ps1")
    path = place(course.root, "ps1", "warm-up")
    kept = Canaries.load(path)
    assert kept and notebook_of(course, "right")["canaries"]["planted"]
    text = path.read_text()
    path.write_text(text.replace(kept.digest, "of another lab"))
    # Marks that were given under canaries do not stand without them, nor the other way round.
    assert grader.grade(course, "ps1").graded
    assert notebook_of(course, "right")["canaries"]["planted"] == 0
    path.write_text(text.replace(kept.context, "made again"))
    assert grader.grade(course, "ps1").graded
    path.write_text(text)
    assert not grader.grade(course, "ps1").graded


def test_twice_the_limits() -> None:
    limits = Limits()
    assert limits.doubled().wall_s == 2 * limits.wall_s and limits.doubled().memory_bytes == 2 * limits.memory_bytes
