"""Which plants are chosen, what a test's answer to one means, and that a plant leaves no trace."""

from __future__ import annotations

import inspect
import linecache
import math
from dataclasses import replace
from pathlib import Path

import pytest
from gradekit.integrity.canaries import (
    STUB,
    Answer,
    Bed,
    Canaries,
    Plant,
    choose,
    cost,
    digest_of,
    rejected,
)

WRONG = Plant("test-a", "a", "x -> y", "def a(x):\n    return x + 1", ("a",), ("AssertionError",), 0.0, 0.5)
EMPTY = replace(WRONG, what=STUB, source="def a(x):\n    raise NotImplementedError()", errors=("NotImplementedError",))


BESIDE = 0.0625  # sums of binary fractions are exact, and may just fill a budget


@pytest.mark.parametrize(
    ("plant", "answer", "meaning"),
    [
        (WRONG, Answer("AssertionError", 0), True),
        (WRONG, Answer("", 2), False),
        (WRONG, Answer("", 1), False),
        (WRONG, Answer("NameError", 0), None),
        (WRONG, Answer("", 0), None),
        (EMPTY, Answer("NotImplementedError", 0), True),
        (EMPTY, Answer("AssertionError", 0), True),
        (EMPTY, Answer("SystemExit", 0), None),
        (replace(WRONG, errors=("",), score=1.0), Answer("", 1), True),
        (replace(WRONG, errors=("",), score=1.0), Answer("", 2), False),
    ],
)
def test_what_an_answer_means(plant: Plant, answer: Answer, meaning: bool | None) -> None:
    assert rejected(plant, answer) is meaning


def plants(tests: int, kinds: int) -> list[Plant]:
    return [
        replace(EMPTY if not kind else WRONG, test=f"test-{n}", source=f"{n} {kind}", share=0.125 + kind)
        for n in range(tests)
        for kind in range(kinds)
    ]


@pytest.mark.parametrize("budget", [0.0, 0.02, 0.2, 1.0, 5.0, math.inf])
def test_no_choice_costs_more_than_the_budget(budget: float) -> None:
    took = {f"test-{n}": 0.0625 * (n + 1) for n in range(8)}
    for _ in range(20):
        steps = choose(plants(8, 4), took, list(took), budget, BESIDE)
        spent = sum(cost(step.plant, took[step.test], BESIDE) for step in steps)
        assert spent <= budget
        covered = {step.test for step in steps if step.plant}
        cheapest = sorted(BESIDE + took[test] * 0.125 for test in took)
        affordable = sum(sum(cheapest[: n + 1]) <= budget for n in range(8))
        assert len(covered) == affordable
        own = [step for step in steps if not step.plant]
        assert all(step.test in covered for step in own)


def test_the_choice_cannot_be_foretold() -> None:
    took = {f"test-{n}": 0.1 for n in range(5)}
    drawn = [choose(plants(5, 5), took, list(took), 3.0, BESIDE) for _ in range(12)]
    assert len({tuple((s.test, s.plant.source if s.plant else "") for s in steps) for steps in drawn}) == 12
    assert len({len(steps) for steps in drawn}) > 1
    assert any(step.plant is None for steps in drawn for step in steps)


def test_a_mutant_is_planted_only_where_what_it_rests_on_is_right() -> None:
    resting = replace(WRONG, needs=("test-b",))
    for full, sources in (([], {EMPTY.source}), (["test-b"], {EMPTY.source, WRONG.source})):
        steps = [step for _ in range(40) for step in choose([resting, EMPTY], {"test-a": 0.1}, full, 9, BESIDE)]
        assert {step.plant.source for step in steps if step.plant} == sources


def test_a_plant_answers_and_the_students_own_comes_back() -> None:
    calls: list[list[int]] = []
    space = {"calls": calls}
    exec("def a(x):\n    calls.append(list(x)); x.clear(); return 'own'", space)
    before = dict(space)
    bed = Bed()
    for shadowed in (False, True):
        wrong = replace(WRONG, source="def a(x):\n    return len(x)\nextra = 1", binds=("a",), shadowed=shadowed)
        exec(bed.plant(replace(wrong, binds=("a",) if shadowed else ("a", "extra"))), space)
        assert space["a"]([7]) == 1, "the wrong answer is given, on the arguments as they were"
        assert calls == ([[7]] if shadowed else []), "the student's own was called on a copy"
    space.pop("extra")
    exec(bed.undo(), space)
    assert space == before
    assert bed.undo() == ""


@pytest.mark.parametrize("kind", ["function", "closure", "callable"])
def test_a_shadow_keeps_the_face_of_the_students_own(kind: str) -> None:
    """Where it is a plain function; its defaults, and its calls of itself, are as they were."""
    sources = {
        "function": "def a(n, *, by=2):\n    note(n)\n    return by * n if n < 2 else a(n - 1)",
        "closure": "def made(by):\n    def a(n):\n        note(n)\n        return by * n if n < 2 else mine(n - 1)\n"
        "    return a\na = made(2)",
        "callable": "class A:\n    def __call__(self, n):\n        note(n)\n"
        "        return 2 * n if n < 2 else a(n - 1)\na = A()",
    }
    space: dict = {"calls": []}
    exec(f"{sources[kind]}\nmine = a\ndef note(n): calls.append((n, a is mine))", space)
    own, calls = space["a"], space["calls"]
    wrong = "def a(n):\n    return 100 if n < 1 else 1 + a(n - 1)"
    bed = Bed()
    exec(bed.plant(replace(WRONG, source=wrong, shadowed=True)), space)
    assert space["a"](3) == 103 and space["a"](1) == 101
    same = kind == "function"
    assert calls == [(3, same), (2, same), (1, same), (1, same)]
    assert (space["a"] is own) is same
    exec(bed.undo(), space)
    assert space["a"] is own and own(1) == 2


def test_a_plants_text_can_be_read_unless_it_hides_behind_the_students_own() -> None:
    """The simulator reads a kernel's text, and runs a kernel that has none far more slowly."""
    source = "def a(x):\n    return 'planted'\n"
    space: dict = {}
    exec("def a(x):\n    return 'own'", space)
    bed = Bed()
    exec(bed.plant(replace(WRONG, source=source)), space)
    assert inspect.getsource(space["a"]) == source and space["a"](0) == "planted"
    kept = {*linecache.cache}
    exec(bed.plant(replace(WRONG, source=source, shadowed=True)), space)
    assert {*linecache.cache} == kept and space["a"](0) == "planted"


def test_a_plant_after_another_stands_on_the_students_own() -> None:
    space: dict = {}
    exec("def a(x):\n    return 'own'", space)
    bed = Bed()
    exec(bed.plant(WRONG), space)
    exec(bed.plant(replace(WRONG, source="b = a(0)", binds=("b",))), space)
    assert space["b"] == "own"


def test_kept_canaries_come_back(tmp_path: Path) -> None:
    path = tmp_path / "a" / "lab.json"
    assert Canaries.load(path) is None
    made = Canaries(digest_of({"a": "1"}), "context", (WRONG, EMPTY), {"test-z": "it calls no exercise"})
    made.save(path)
    assert Canaries.load(path) == made
    path.write_text(path.read_text().replace('"share"', '"price"'))
    assert Canaries.load(path) is None, "of another version"
    path.write_text("{")
    assert Canaries.load(path) is None
